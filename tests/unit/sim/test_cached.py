import random
from itertools import islice

import pytest

from scheduler.sim.cached import Cached, Pick, at_random, better_of_two, in_turn, least_loaded, sampled
from scheduler.sim.tries import Answer
from scheduler.sim.truth import Truth

RNG = random.Random(1)


def replica(pick: Pick, used: list[int], *, most: int = 3, sees: bool = True) -> Cached:
    truth = Truth([4] * len(used), random.Random(1))
    for node, count in enumerate(used):
        for _ in range(count):
            truth.take(node)
    return Cached(pick, truth, random.Random(1), most=most, sees=sees)


def picked(pick: Pick, used: list[int], count: int) -> list[int]:
    return list(islice(pick(replica(pick, used), RNG), count))


def test_at_random_meets_every_node() -> None:
    assert set(picked(at_random, [0, 4, 2], 60)) == {0, 1, 2}


def test_in_turn_meets_every_node_once_a_round() -> None:
    assert sorted(picked(in_turn, [4, 0, 4, 0], 4)) == [0, 1, 2, 3]


def test_least_loaded_draws_among_the_lowest_that_it_knows() -> None:
    assert set(picked(least_loaded, [3, 1, 1, 2], 60)) == {1, 2}


def test_the_better_of_two_is_never_the_worst_of_many_but_against_itself() -> None:
    drawn = picked(better_of_two, [4, 0, 0, 0, 0, 0, 0, 0], 400)
    assert drawn.count(0) < 20


def test_sampled_tries_what_seems_free_the_least_loaded_first() -> None:
    assert picked(sampled, [3, 4, 0, 2, 4], 20) == [2, 3, 0]


def test_sampled_takes_twenty_at_most() -> None:
    found = picked(sampled, [0] * 50, 50)
    assert len(found) == len(set(found)) == 20


def test_a_node_that_was_full_is_passed_over_until_the_next_refresh() -> None:
    cached = replica(least_loaded, [0, 1, 2])
    tries = cached.tries(RNG)
    assert next(tries) == [0]
    assert tries.send(Answer([-1], None)) == [1]
    assert next(cached.tries(RNG)) == [1]
    cached.refresh(Truth([4, 4, 4], RNG))
    assert next(cached.tries(RNG)) in ([0], [1], [2])
    assert cached.loads == [0, 0, 0]


def test_all_that_is_known_to_be_full_is_still_tried() -> None:
    cached = replica(least_loaded, [4, 4])
    assert next(cached.tries(RNG)) in ([0], [1])


def test_a_scheduler_gives_up_after_so_many_tries() -> None:
    tries = replica(at_random, [4, 4], sees=False).tries(RNG)
    next(tries)
    tries.send(Answer([-1], None))
    tries.send(Answer([-1], None))
    with pytest.raises(StopIteration):
        tries.send(Answer([-1], None))
