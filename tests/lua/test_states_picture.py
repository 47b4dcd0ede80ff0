"""The picture of a job's states in docs/images: its states are the code's, its arrows are walked on a server."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.domain.job import JobState
from tests.lua.keyspace import P
from tests.lua.shard import Shard

PICTURE = ET.parse(Path(__file__).parents[2] / "docs" / "images" / "states.svg")  # noqa: S314 - our own file
SVG = "{http://www.w3.org/2000/svg}"
HOUR_MS = 3_600_000

Arrow = tuple[str, str]
# Brings the job j into the state where the arrow begins, and answers its fence; then takes the step.
Begin = Callable[[Shard], str]
Step = Callable[[Shard, str], object]


def drawn() -> set[Arrow]:
    return {
        (begin, path.attrib["data-to"])
        for path in PICTURE.iter(f"{SVG}path")
        for begin in path.attrib.get("data-from", "").split()
    }


def boxes(kind: str) -> set[str]:
    """The states that are drawn as ends, or not."""
    groups = [group for group in PICTURE.iter(f"{SVG}g") if group.get("class") == "state"]
    return {
        "".join(each.itertext()).strip() for each in groups if each.find(f"{SVG}rect[@class='{kind}']") is not None
    }


def new(shard: Shard) -> str:
    shard.register("n1", slots=1, ttl_ms=HOUR_MS)
    return ""


def pending(shard: Shard) -> str:
    """It waits for the one slot of n1, which another job has."""
    new(shard)
    shard.run("held", "n1", timeout_ms=HOUR_MS)
    assert shard.claim("j", "n1", wait_ms=1_000)[0] == b"waiting"
    return ""


def claimed(shard: Shard) -> str:
    new(shard)
    return shard.place("j", "n1", retry_failed=True, max_attempts=2)


def running(shard: Shard) -> str:
    fence = claimed(shard)
    assert shard.call("job_start", "j", fence)[0] == b"running"
    return fence


def wait(shard: Shard, _: str) -> None:
    shard.call("node_mark", "n1", "cordon")
    assert shard.claim("j", "n1", wait_ms=1_000)[0] == b"waiting"


def serve(shard: Shard, _: str) -> None:
    assert shard.call("job_finish", "held", shard.field("job:held", "fence"), "succeeded") == [b"finished"]


def expire(shard: Shard, _: str) -> None:
    shard.advance(2_000)
    shard.call("reap")


def elsewhere(shard: Shard, fence: str) -> None:
    """The handler failed, another node is free."""
    shard.register("n2", slots=1, ttl_ms=HOUR_MS)
    assert shard.call("job_finish", "j", fence, "failed") == [b"finished"]
    assert (shard.field("job:j", "node"), shard.field("job:j", "attempt")) == ("n2", "2")


def later(shard: Shard, _: str) -> None:
    """The node is gone, and there is no other."""
    shard.call("node_remove", "n1", shard.field("node:n1", "incarnation"))
    shard.call("reap")


def fail(shard: Shard, fence: str) -> None:
    """The last of two attempts."""
    shard.client.hset(f"{P}:job:j", "attempt", 2)
    assert shard.call("job_finish", "j", fence, "failed") == [b"finished"]


def succeed(shard: Shard, fence: str) -> None:
    assert shard.call("job_finish", "j", fence, "succeeded") == [b"finished"]


def cancel(shard: Shard, _: str) -> None:
    assert shard.call("job_cancel", "j") == [b"cancelled"]


LEASED: dict[str, Begin] = {"claimed": claimed, "running": running}
WALKS: dict[Arrow, tuple[Begin, Step]] = {
    ("new", "claimed"): (new, lambda shard, _: shard.place("j", "n1")),
    ("new", "pending"): (new, wait),
    ("pending", "claimed"): (pending, serve),
    ("pending", "expired"): (pending, expire),
    ("pending", "cancelled"): (pending, cancel),
    ("claimed", "running"): (claimed, lambda shard, fence: shard.call("job_start", "j", fence)),
    **{(name, "claimed"): (begin, elsewhere) for name, begin in LEASED.items()},
    **{(name, "pending"): (begin, later) for name, begin in LEASED.items()},
    **{(name, "succeeded"): (begin, succeed) for name, begin in LEASED.items()},
    **{(name, "failed"): (begin, fail) for name, begin in LEASED.items()},
    **{(name, "cancelled"): (begin, cancel) for name, begin in LEASED.items()},
}


def test_the_picture_has_the_states_of_the_code_and_no_arrow_leaves_an_end() -> None:
    assert boxes("box") == {state.value for state in JobState if not state.ended}
    assert boxes("end") == {state.value for state in JobState if state.ended}
    assert {begin for begin, _ in drawn()} == {"new"} | boxes("box")
    assert {to for _, to in drawn()} == boxes("box") | boxes("end")


def test_its_arrows_are_those_that_are_walked_here() -> None:
    assert drawn() == WALKS.keys()


@pytest.mark.parametrize("arrow", WALKS, ids="-".join)
def test_a_job_goes_as_the_arrow_shows_and_has_a_lease_only_where_the_picture_says_so(
    shard: Shard, arrow: Arrow
) -> None:
    begin, step = WALKS[arrow]
    fence = begin(shard)
    before = shard.field("job:j", "state") or "new"
    step(shard, fence)
    assert (before, shard.field("job:j", "state")) == arrow
    assert (shard.client.zscore(f"{P}:leases", "j") is not None) == (arrow[1] in LEASED)
    assert bool(shard.field("job:j", "ended_at_ms")) == JobState(arrow[1]).ended
