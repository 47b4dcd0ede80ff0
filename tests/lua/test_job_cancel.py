"""job_cancel: ends a job that has not ended; a node at work keeps the slot until it confirms."""

import pytest

from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard

HOUR_MS = 3_600_000
CANCELLED = {"state": "cancelled", "ended_at_ms": NOW, "reason": "cancelled", "result": ""}


def event(job: str = "j1") -> dict[str, str]:
    return {"kind": "job_cancelled", "job": job, "tenant": "acme", "node": "n1", "reason": "cancelled"}


def test_a_claimed_job_gives_back_slot_and_delivery_at_once(shard: Shard) -> None:
    shard.register(slots=1)
    shard.place()
    before = dump(shard.client)
    assert "free" not in before
    assert shard.call("job_cancel", "j1") == [b"cancelled"]
    gone, new = changes(before, dump(shard.client))
    assert new.pop("events")[-1] == event()
    version = float(shard.meta("version"))
    assert new == {
        P: {"version": f"{version:.0f}"},
        "changed": {"n1": version},
        "job:j1": CANCELLED,
        "free": {"n1"},
        "node:n1:inbox": [],
    }
    assert gone.keys() >= {"leases", "node:n1:leases"}
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= HOUR_MS


def test_a_running_job_ends_but_its_slot_stays_taken_and_the_node_is_told(shard: Shard) -> None:
    shard.register(slots=1)
    fence = shard.run()
    before = dump(shard.client)
    assert shard.call("job_cancel", "j1") == [b"cancelled"]
    gone, new = changes(before, dump(shard.client))
    assert new.pop("events")[-1] == event()
    entry = new.pop("node:n1:ending")["j1"]
    assert entry.split()[0] == fence
    assert new == {
        "tenant:acme:leases": {f"j1 {fence}": float(fence)},
        "job:j1": {**CANCELLED, f"ending:{fence}": "n1", "lingering": "1"},
        "node:n1:inbox": [{"kind": "cancel", "job": "j1", "fence": fence}],
    }
    assert gone.keys() == {"job:j1", "leases", "node:n1:inbox", "events", "tenant:acme:leases"}
    assert shard.client.pttl(f"{P}:job:j1") == -1, "the hour begins with the confirmation"


def test_a_running_direct_job_has_nobody_to_confirm(shard: Shard) -> None:
    shard.register(slots=1)
    shard.run(deliver="direct")
    assert shard.call("job_cancel", "j1") == [b"cancelled"]
    state = dump(shard.client)
    assert state["free"] == {"n1"}
    assert not {"leases", "node:n1:leases", "node:n1:ending", "node:n1:inbox"} & state.keys()


@pytest.mark.parametrize("state", ["cancelled", "succeeded"])
def test_an_ended_job_is_a_duplicate_and_nothing_changes(shard: Shard, state: str) -> None:
    shard.register()
    fence = shard.place()
    if state == "cancelled":
        shard.call("job_cancel", "j1")
    else:
        shard.call("job_finish", "j1", fence, state)
    before = exact(shard.client)
    assert shard.call("job_cancel", "j1") == [b"duplicate"]
    assert exact(shard.client) == before


def test_an_unknown_job_makes_no_key(shard: Shard) -> None:
    assert shard.call("job_cancel", "j1") == [b"unknown"]
    assert dump(shard.client) == {}


@pytest.mark.parametrize("gone", ["registered again", "removed", "lost"])
def test_a_job_whose_node_is_gone_ends_at_once_and_leaves_nothing_behind(shard: Shard, gone: str) -> None:
    incarnation = shard.register()
    shard.run()
    if gone == "removed":
        shard.call("node_remove", "n1", incarnation)
    elif gone == "registered again":
        shard.register()
    else:
        # lost by a claim that met it; its orphans are not reaped yet
        shard.advance(3000)
        shard.claim("j2", "n1")
    assert shard.call("job_cancel", "j1") == [b"cancelled"]
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= HOUR_MS
    shard.call("reap")
    state = dump(shard.client)
    assert state["job:j1"]["state"] == "cancelled"
    assert not [key for key in state if "orphan" in key or "ending" in key or "inbox" in key or "leases" in key]
    assert not [name for name in state["job:j1"] if name.startswith("ending")]
