"""beating: heartbeats whose loads change and stay under the limits."""

import itertools

import hiredis

from scheduler.bench.beating import heartbeat


def loads(node: int, turn: int) -> list[float]:
    reader = hiredis.Reader()
    reader.feed(heartbeat(node, turn))
    words = reader.gets()
    assert isinstance(words, list)
    assert words[4] == f"n{node:012}".encode()
    return [float(word) for word in words[7::2]]


def test_loads_change_each_turn_and_never_take_a_node_out() -> None:
    for node in (0, 1, 9_999):
        turns = [loads(node, turn) for turn in range(60)]
        assert all(len(turn) == 3 and max(turn) < 85 for turn in turns)
        assert all(before != after for before, after in itertools.pairwise(turns))
