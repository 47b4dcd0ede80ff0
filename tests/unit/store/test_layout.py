"""Tags of shards lie so that primaries serve as many shards each."""

from collections import Counter
from itertools import pairwise

import pytest
from redis.crc import key_slot

from scheduler.domain.shards import SHARDS_MAX
from scheduler.errors import BadInput
from scheduler.store.layout import FIRST, HASH_SLOTS, chosen_tags


def ranges(primaries: int) -> list[tuple[int, int]]:
    """First and last hash slot of each, as redis-cli --cluster create deals them out."""
    edges = [round(number * HASH_SLOTS / primaries) for number in range(primaries + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


@pytest.fixture(scope="module")
def tags() -> dict[int, tuple[str, ...]]:
    return {count: chosen_tags(count) for count in (*range(1, 33), 40, 48, 63, 64, 65, 96, 100, 127, 128)}


def test_tags_are_distinct_and_begin_with_the_first(tags: dict[int, tuple[str, ...]]) -> None:
    for count, chosen in tags.items():
        assert (len(set(chosen)), chosen[0]) == (count, FIRST)
        assert all(tag.isalnum() and len(tag) <= 32 for tag in chosen)


@pytest.mark.parametrize("primaries", range(1, 17))
def test_primaries_have_as_many_shards_each_give_or_take_one(
    tags: dict[int, tuple[str, ...]], primaries: int
) -> None:
    for count, chosen in tags.items():
        slots = [key_slot(tag.encode()) for tag in chosen]
        shards = Counter(sum(first <= slot <= last for slot in slots) for first, last in ranges(primaries))
        assert sum(each * held for held, each in shards.items()) == count
        assert max(shards) - min(shards) <= 1, (count, shards)


@pytest.mark.parametrize("count", [-1, 0, SHARDS_MAX + 1])
def test_no_other_number_of_shards(count: int) -> None:
    with pytest.raises(BadInput):
        chosen_tags(count)
