"""job_finish: the attempt is over and its slot is free; only the current fence ends a job."""

import pytest

from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [("succeeded", "succeeded", ""), ("failed", "failed", "handler_failed")],
)
def test_finish_from_claimed_frees_slot_delivery_and_lease(
    shard: Shard, outcome: str, state: str, reason: str
) -> None:
    shard.register(slots=1)
    fence = shard.place()
    before = dump(shard.client)
    assert shard.call("job_finish", "j1", fence, outcome, "the result") == [b"finished"]
    gone, new = changes(before, dump(shard.client))
    assert new.pop("events")[-1] == {
        "kind": f"job_{state}", "job": "j1", "tenant": "acme", "node": "n1", "reason": reason,
    }  # fmt: skip
    version = float(shard.meta("version"))
    blamed = {"failures": "1.000", "failed_ms": shard.field("node:n1", "failed_ms")}
    assert new == {
        P: {"version": f"{version:.0f}"},
        "changed": {"n1": version},
        "free": {"n1"},
        "node:n1:inbox": [],
        **({"node:n1": blamed} if outcome == "failed" else {}),
        "job:j1": {
            "state": state, "ended_at_ms": NOW, "reason": reason,
            "result": "the result",
        },
    }  # fmt: skip
    assert {"leases", "node:n1:leases"} <= gone.keys()
    assert gone["job:j1"] == {"state": "claimed", "entry": NOW}
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= 3_600_000


def test_finish_from_running_leaves_a_node_that_was_free_as_it_was(shard: Shard) -> None:
    shard.register(slots=2)
    fence = shard.run()
    before = dump(shard.client)
    assert shard.call("job_finish", "j1", fence, "succeeded") == [b"finished"]
    gone, new = changes(before, dump(shard.client))
    assert new.keys() == {"job:j1", "events"}
    assert gone.keys() == {"job:j1", "events", "leases", "node:n1:leases", "tenant:acme:leases"}


def test_a_freed_slot_does_not_open_a_cordoned_or_overloaded_node(shard: Shard) -> None:
    incarnation = shard.register(slots=1)
    fence = shard.run()
    shard.call("node_mark", "n1", "cordon")
    shard.call("job_finish", "j1", fence, "succeeded")
    assert "free" not in dump(shard.client)
    shard.call("node_mark", "n1", "uncordon")
    fence = shard.run("j2")
    shard.call("node_heartbeat", "n1", incarnation, "cpu", 99)
    shard.call("job_finish", "j2", fence, "succeeded")
    assert "free" not in dump(shard.client)


def test_a_second_finish_is_a_duplicate_and_changes_nothing(shard: Shard) -> None:
    shard.register()
    fence = shard.run()
    shard.call("job_finish", "j1", fence, "succeeded", "first")
    before = exact(shard.client)
    assert shard.call("job_finish", "j1", fence, "failed", "second") == [b"duplicate"]
    assert exact(shard.client) == before


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("ended", [False, True])
def test_a_stale_fence_changes_nothing(shard: Shard, off: int, *, ended: bool) -> None:
    shard.register()
    fence = int(shard.run())
    if ended:
        shard.call("job_finish", "j1", fence, "succeeded")
    before = exact(shard.client)
    assert shard.call("job_finish", "j1", fence + off, "succeeded") == [b"fenced"]
    assert exact(shard.client) == before


def test_an_unknown_job_makes_no_key(shard: Shard) -> None:
    assert shard.call("job_finish", "j1", 1, "succeeded") == [b"unknown"]
    assert dump(shard.client) == {}


def test_finish_after_a_cancel_confirms_it_and_frees_the_slot(shard: Shard) -> None:
    shard.register(slots=1)
    fence = shard.run()
    shard.call("job_cancel", "j1")
    before = dump(shard.client)
    assert "free" not in before
    assert shard.call("job_finish", "j1", fence, "succeeded", "too late") == [b"duplicate"]
    gone, new = changes(before, dump(shard.client))
    assert new == {
        P: {"version": shard.meta("version")},
        "changed": {"n1": float(shard.meta("version"))},
        "free": {"n1"},
        "node:n1:inbox": [],
        "job:j1": {},
    }
    assert gone["job:j1"] == {f"ending:{fence}": "n1", "lingering": "1"}
    assert {"node:n1:ending", "node:n1:leases"} <= gone.keys()
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= 3_600_000
    again = exact(shard.client)
    assert shard.call("job_finish", "j1", fence, "succeeded") == [b"duplicate"]
    assert exact(shard.client) == again


def test_a_result_of_the_largest_size_is_kept_whole(shard: Shard) -> None:
    shard.register()
    result = bytes(range(256)) * 1024
    shard.call("job_finish", "j1", shard.run(), "succeeded", result)
    assert shard.client.hget(f"{P}:job:j1", "result") == result


def test_work_that_was_done_counts_though_its_node_was_lost_meanwhile(shard: Shard) -> None:
    shard.register()
    fence = shard.run()
    shard.advance(3000)
    shard.claim("j2", "n1")
    assert shard.field("node:n1", "state") == "lost"
    assert shard.call("job_finish", "j1", fence, "succeeded") == [b"finished"]
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    state = dump(shard.client)
    assert state["job:j1"]["state"] == "succeeded"
    assert not [key for key in state if "orphan" in key or "leases" in key]
