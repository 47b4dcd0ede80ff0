"""Which shard an id belongs to, and how few change theirs when a shard is added."""

import pytest

from scheduler.domain.shards import home_tag, job_tag, preference
from scheduler.store.layout import chosen_tags

TAGS = tuple(map(str, range(8)))
IDS = [f"acme:job-{number}" for number in range(4_000)]


def test_one_shard_has_all() -> None:
    assert {home_tag(("7",), id_) for id_ in IDS[:50]} == {"7"}


def test_an_id_has_the_same_shard_in_any_language() -> None:
    # printf %s acme:job-0 | sha1sum | cut -c1-8, modulo 3
    assert [home_tag(("0", "1", "2"), f"acme:job-{number}") for number in range(4)] == KNOWN


KNOWN = ["0", "0", "1", "0"]


def test_ids_are_spread_evenly() -> None:
    counts = [sum(home_tag(TAGS, id_) == tag for id_ in IDS) for tag in TAGS]
    assert sum(counts) == len(IDS)
    assert all(400 < count < 600 for count in counts)


@pytest.mark.parametrize(
    ("job", "tag"),
    [
        ("3.abc", "3"),
        ("0.3.4", "0"),
        ("9.abc", None),
        ("abc", None),
        ("acme:3.x", None),
        ("3.x:y", None),
        (".x", None),
    ],
)
def test_an_id_that_a_replica_made_leads_to_the_tag_that_it_begins_with(job: str, tag: str | None) -> None:
    assert job_tag(TAGS, job) == (tag or home_tag(TAGS, job))


def first(tags: tuple[str, ...], session: str) -> str:
    return max(tags, key=lambda tag: preference(session, tag))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_shard_that_is_added_takes_its_share_of_sessions_and_moves_no_other(count: int) -> None:
    tags = chosen_tags(8)
    before = {session: first(tags[:count], session) for session in IDS}
    after = {session: first(tags[: count + 1], session) for session in IDS}
    moved = {session for session in IDS if before[session] != after[session]}
    assert {after[session] for session in moved} == {tags[count]}
    assert 0.8 < len(moved) * (count + 1) / len(IDS) < 1.2


def test_the_order_of_shards_for_a_session_is_total() -> None:
    for session in IDS[:100]:
        assert len({preference(session, tag) for tag in TAGS}) == len(TAGS)
