"""node_remove: nothing of the node is left but the tombstone that tells the mirrors, and the jobs that it held."""

import pytest

from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard

LEFT = {P, "changed", "removed", "events"}


@pytest.mark.parametrize("state", ["ready", "cordoned", "lost"])
def test_only_the_tombstone_is_left(shard: Shard, state: str) -> None:
    incarnation = shard.register(capabilities="asr:zh gpu", labels="zone=a")
    if state == "cordoned":
        shard.call("node_mark", "n1", "cordon")
    if state == "lost":
        shard.advance(3000)
        assert shard.call("reap") == [b"reaped", 1, 0, 0]
    assert shard.call("node_remove", "n1", incarnation) == [b"removed"]
    after = dump(shard.client)
    assert after.keys() == LEFT
    version = shard.meta("version")
    assert (after["changed"], shard.meta("structure_version")) == ({"n1": float(version)}, version)
    assert int(shard.meta("clock")) <= after["removed"]["n1"] < int(shard.meta("clock")) + 100
    assert after["events"][-1] == {"kind": "node_removed", "node": "n1", "reason": "left"}


def test_its_jobs_end_at_the_next_reaping(shard: Shard) -> None:
    incarnation = shard.register()
    shard.run("j1", max_attempts=1)
    shard.place("j2", max_attempts=1)
    shard.call("node_remove", "n1", incarnation)
    state = dump(shard.client)
    assert set(state[f"orphan:n1:{incarnation}"]) == {"j1", "j2"}
    assert not [key for key in state if key.startswith("node:")]
    assert shard.call("reap") == [b"reaped", 0, 2, 2]
    after = dump(shard.client)
    assert after.keys() == LEFT | {"job:j1", "job:j2"}
    assert {(after[f"job:{job}"]["state"], after[f"job:{job}"]["reason"]) for job in ("j1", "j2")} == {
        ("failed", "node_lost")
    }


def test_another_incarnation_is_fenced_and_changes_nothing(shard: Shard) -> None:
    old = shard.register()
    shard.register()
    before = exact(shard.client)
    assert shard.call("node_remove", "n1", old) == [b"fenced"]
    assert exact(shard.client) == before


def test_an_unknown_node_makes_no_key(shard: Shard) -> None:
    assert shard.call("node_remove", "n1", 1) == [b"unknown"]
    assert dump(shard.client) == {}


def test_neighbours_under_the_same_indexes_stay(shard: Shard) -> None:
    incarnation = shard.register("n1")
    shard.register("n2")
    shard.call("node_remove", "n1", incarnation)
    state = dump(shard.client)
    for key in ("free", "cap:asr:zh", "cap:asr", "pool:default"):
        assert state[key] == {"n2"}
    assert set(state["nodes"]) == set(state["settled"]) == {"n2"}
