"""Jobs that wait: who may, who is served by what, in which order, and how a wait ends."""

import json
from typing import Any

import pytest

from scheduler.domain.ids import NodeId
from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard

WAITS = ("waiting", "pending", "fair")


def full(
    shard: Shard, node: str = "n1", slots: int = 1, capabilities: str = "asr:zh", prefix: str = "held"
) -> list[str]:
    """A node without a free slot; answers the fences of the jobs that hold it, held0 and on."""
    shard.register(node, capabilities, slots, ttl_ms=3_600_000)
    token = capabilities.split(maxsplit=1)[0]
    return [shard.run(f"{prefix}{number}", node, tenant="holder", requires=token) for number in range(slots)]


def wait(shard: Shard, job: str, *, wait_ms: int = 60_000, expect: str = "overloaded", **fields: Any) -> None:
    answer = shard.claim(job, wait_ms=wait_ms, **fields)
    assert answer[:2] == [b"waiting", job.encode()], answer
    assert dump(shard.client)["events"][-1]["reason"] == expect


def state(shard: Shard, job: str) -> tuple[str, str]:
    return shard.field(f"job:{job}", "state"), shard.field(f"job:{job}", "node")


def nothing_waits(shard: Shard) -> bool:
    return not [key for key in dump(shard.client) if key in WAITS or key.startswith("queue:")]


def test_a_job_that_would_be_refused_waits_if_it_asked_to(shard: Shard) -> None:
    full(shard)
    before = dump(shard.client)
    wait(shard, "j1", priority=7, wait_ms=5_000, payload="{}")
    gone, new = changes(before, dump(shard.client))
    now = int(shard.meta("clock"))
    (name,) = new["waiting"]
    assert gone.keys() <= {"events", P}
    assert json.loads(new["waiting"][name]) == {
        "any_of": [["asr:zh"]], "pool": "", "fallback": True, "languages": "", "exclude": "",
    }  # fmt: skip
    assert name.endswith(":acme")
    assert list(new[f"queue:{name}"]) == ["j1"]
    assert now + 4_000 <= new["pending"]["j1"] <= now + 6_000
    job = new["job:j1"]
    assert (job["state"], job["queue"], job["waits_until_at_ms"], job["priority"]) == ("pending", name, NOW, "7")
    assert not {"node", "fence", "attempt"} & job.keys()
    assert new["events"][-1] == {"kind": "job_waiting", "job": "j1", "tenant": "acme", "reason": "overloaded"}


def test_what_no_node_offers_is_refused_at_once_and_does_not_wait(shard: Shard) -> None:
    full(shard)
    assert shard.claim("j1", requires="other", wait_ms=5_000)[:2] == [b"refused", b"impossible"]
    assert nothing_waits(shard)


def test_the_same_claim_again_finds_the_job_that_waits(shard: Shard) -> None:
    full(shard)
    wait(shard, "j1")
    before = exact(shard.client)
    assert shard.claim("j1", wait_ms=60_000)[:3] == [b"exists", b"pending", b""]
    assert shard.claim("j1", wait_ms=60_000, digest="other") == [b"differs"]
    assert exact(shard.client) == before


@pytest.mark.parametrize(
    "by", ["finish", "new node", "uncordon", "load", "slots", "capability", "pool", "release", "lost"]
)
def test_whatever_frees_a_slot_serves_the_job_in_that_same_step(shard: Shard, by: str) -> None:
    fences = full(shard, slots=1)
    incarnation = shard.field("node:n1", "incarnation")
    if by in {"uncordon", "load"}:
        shard.call("job_finish", "held0", fences[0], "succeeded")
        shard.call(
            *(("node_mark", "n1", "cordon") if by == "uncordon" else ("node_heartbeat", "n1", incarnation, "cpu", 99))
        )
    if by == "capability":
        shard.register("n2", "other", ttl_ms=3_600_000)
    if by == "pool":
        shard.call("pool_put", "gold", '{"selector":{"labels":{"tier":"gold"}}}')
        shard.register("n2", ttl_ms=3_600_000)
        shard.call("node_heartbeat", "n1", incarnation, "labels", "tier=gold")
    wait(shard, "j1", expect="unavailable" if by == "uncordon" else "overloaded")
    node = "n1"
    match by:
        case "finish":
            shard.call("job_finish", "held0", fences[0], "succeeded")
        case "release":
            # the job that was handed back goes elsewhere or waits: its slot is for the one that waited
            shard.call("job_finish", "held0", fences[0], "released")
            assert state(shard, "held0") == ("pending", "")
        case "new node":
            node = "n2"
            shard.register("n2", ttl_ms=3_600_000)
        case "uncordon":
            shard.call("node_mark", "n1", "uncordon")
        case "load":
            shard.call("node_heartbeat", "n1", incarnation, "cpu", 10)
        case "slots":
            shard.call("node_heartbeat", "n1", incarnation, "slots", 2)
        case "capability":
            node = "n2"
            shard.call("node_heartbeat", "n2", shard.field("node:n2", "incarnation"), "capabilities", "other asr:zh")
        case "pool":
            node = "n2"
            shard.call("pool_put", "gold", '{"selector":{"all":true}}')
            shard.call("node_heartbeat", "n2", shard.field("node:n2", "incarnation"))
        case _:
            # the node is lost and its job placed again; a third one serves both
            shard.client.zadd(f"{P}:nodes", {"n1": 1})
            shard.call("reap")
            assert state(shard, "held0") == ("pending", "")
            node = "n3"
            shard.register("n3", slots=2, ttl_ms=3_600_000)
            assert state(shard, "held0") == ("claimed", "n3")
    assert state(shard, "j1") == ("claimed", node)
    fence = shard.field("job:j1", "fence")
    assert {"kind": "job", "job": "j1", "fence": fence} in dump(shard.client)[f"node:{node}:inbox"]
    if by != "release":
        assert nothing_waits(shard)
    assert shard.call("job_start", "j1", fence)[0] == b"running"


def served(shard: Shard, fences: list[str], jobs: list[str]) -> list[str]:
    """The order in which slots that come free one by one are given to these jobs."""
    order = []
    for number, fence in enumerate(fences):
        shard.call("job_finish", f"held{number}", fence, "succeeded")
        new = [job for job in jobs if state(shard, job)[0] == "claimed" and job not in order]
        assert len(new) == 1
        order += new
    return order


def test_priority_comes_first_and_then_age(shard: Shard) -> None:
    fences = full(shard, slots=4)
    for job, priority in (("low", 1), ("old", 5), ("high", 9), ("new", 5)):
        wait(shard, job, priority=priority)
        shard.advance(2)
    assert served(shard, fences, ["low", "old", "high", "new"]) == ["high", "old", "new", "low"]


def test_tenants_take_turns_however_many_jobs_one_of_them_has(shard: Shard) -> None:
    fences = full(shard, slots=6)
    jobs = [f"a{number}" for number in range(4)] + ["b0", "b1"]
    for job in jobs:
        wait(shard, job, tenant=job[0])
        shard.advance(2)
    assert [job[0] for job in served(shard, fences, jobs)] == ["a", "b", "a", "b", "a", "a"]


def test_a_tenant_of_weight_three_gets_three_turns_for_each_of_another(shard: Shard) -> None:
    config = {"pools": {"default": {"selector": {"all": True}}}, "weights": {"a": 3}}
    assert shard.call("pools_apply", 0, json.dumps(config))[0] == b"applied"
    fences = full(shard, slots=8)
    jobs = [f"{tenant}{number}" for number in range(6) for tenant in "ab"]
    for job in jobs:
        wait(shard, job, tenant=job[0])
    order = [job[0] for job in served(shard, fences, jobs)]
    assert order.count("a") == 6
    assert order.count("b") == 2


def test_a_job_that_the_node_cannot_run_does_not_stand_in_the_way(shard: Shard) -> None:
    full(shard)
    full(shard, "n2", capabilities="tts:en", prefix="other")
    wait(shard, "other", requires="tts:en", priority=9)
    wait(shard, "excluding", exclude=frozenset({NodeId("n1")}), priority=9, expect="unavailable")
    wait(shard, "mine")
    shard.call("node_heartbeat", "n1", shard.field("node:n1", "incarnation"), "slots", 3)
    assert [state(shard, job)[0] for job in ("other", "excluding", "mine")] == ["pending", "pending", "claimed"]


def test_a_wait_that_is_over_expires_with_the_reason(shard: Shard) -> None:
    full(shard)
    wait(shard, "j1", wait_ms=500)
    shard.advance(500)
    assert shard.call("reap") == [b"reaped", 0, 0, 1]
    job = dump(shard.client)["job:j1"]
    assert (job["state"], job["reason"], "queue" in job) == ("expired", "overloaded", False)
    assert nothing_waits(shard)
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= 3_600_000
    assert dump(shard.client)["events"][-1]["kind"] == "job_expired"


def test_a_job_that_waits_can_be_cancelled(shard: Shard) -> None:
    (fence,) = full(shard)
    wait(shard, "j1")
    assert shard.call("job_cancel", "j1") == [b"cancelled"]
    assert nothing_waits(shard)
    shard.call("job_finish", "held0", fence, "succeeded")
    assert state(shard, "j1") == ("cancelled", "")
    assert shard.call("job_cancel", "j1") == [b"duplicate"]


def test_no_more_than_128_demands_and_1000_jobs_of_a_tenant_wait(shard: Shard) -> None:
    tokens = " ".join(f"t{number}" for number in range(130))
    full(shard, capabilities=f"asr:zh {tokens}")
    for number in range(128):
        tenant = f"o{number}" if number else "acme"
        assert shard.claim(f"d{number}", requires=f"t{number}", tenant=tenant, wait_ms=60_000)[0] == b"waiting"
    before = dump(shard.client)
    assert shard.claim("more", requires="t128", wait_ms=5_000)[:2] == [b"crowded", b"demands"]
    assert dump(shard.client) == before
    for number in range(999):
        assert shard.claim(f"j{number}", requires="t0", wait_ms=60_000)[0] == b"waiting"
    assert shard.claim("more", requires="t0", wait_ms=5_000)[:2] == [b"crowded", b"tenant"]


def test_one_tenant_leaves_demands_for_the_others(shard: Shard) -> None:
    tokens = " ".join(f"t{number}" for number in range(128))
    full(shard, capabilities=f"asr:zh {tokens}")

    def waiting(tenant: str) -> int:
        """How many demands the tenant can have now."""
        for number in range(128):
            answer = shard.claim(f"{tenant}{number}", requires=f"t{number}", tenant=tenant, wait_ms=60_000)
            if answer[0] != b"waiting":
                assert answer[:2] == [b"crowded", b"demands"]
                return number
        return 128

    assert [waiting(tenant) for tenant in ("a", "b", "c", "d", "e")] == [96, 24, 6, 2, 0]
    assert shard.claim("more", requires="t0", tenant="a", wait_ms=60_000)[0] == b"waiting", "no new demand"


def test_reaping_serves_what_a_single_call_had_to_leave(shard: Shard) -> None:
    full(shard)
    for number in range(40):
        wait(shard, f"j{number}")
    shard.register("big", slots=100, ttl_ms=3_600_000)
    assert len(dump(shard.client)["node:big:leases"]) == 16, "one call serves a bounded number"
    for _ in range(30):
        shard.call("reap")
    assert len(dump(shard.client)["node:big:leases"]) == 40
    assert nothing_waits(shard)


def test_a_waiting_job_that_is_served_makes_its_session_follow(shard: Shard) -> None:
    (fence,) = full(shard)
    wait(shard, "j1", session="s", affinity="sticky")
    shard.call("job_finish", "held0", fence, "succeeded")
    assert shard.client.get(f"{P}:session:acme:s") == b"n1"


def test_a_lapsed_node_serves_nobody(shard: Shard) -> None:
    (fence,) = full(shard)
    wait(shard, "j1")
    shard.client.zadd(f"{P}:nodes", {"n1": 1})
    shard.call("job_finish", "held0", fence, "succeeded")
    assert state(shard, "j1") == ("pending", "")


def test_nodes_that_reaping_meets_under_a_new_configuration_never_get_one_job_twice(shard: Shard) -> None:
    labelled = {"selector": {"labels": {"tier": "main"}}}
    shard.apply({"main": labelled})
    shard.register("n0", slots=1, labels="tier=main", ttl_ms=3_600_000)
    shard.run("held", "n0")
    for node, language in (("n1", "de"), ("n2", "fr"), ("n3", "it")):
        shard.register(node, f"asr:zh semantic:{language}", slots=64, ttl_ms=3_600_000)
    for number in range(120):
        assert shard.claim(f"j{number}", wait_ms=3_600_000)[0] == b"waiting"
    # each node makes a pool of its own, so that those before it are to be brought anew in the same turn
    shard.apply({"main": {"selector": {"all": True}}}, language_pools={})
    for _ in range(4):
        shard.call("reap")
        for node in ("n1", "n2", "n3"):
            shard.beat(node)
    leases = [job for number in range(4) for job in dump(shard.client)[f"node:n{number}:leases"]]
    assert sorted(leases) == sorted(["held", *(f"j{number}" for number in range(120))])
    assert nothing_waits(shard)


@pytest.mark.parametrize("by", ["finish", "uncordon", "release"])
def test_a_slot_that_comes_free_before_the_node_is_brought_is_given_by_the_present_pools(
    shard: Shard, by: str
) -> None:
    shard.put("gold", selector={"labels": {"tier": "gold"}}, tenants=["acme"])
    incarnation = shard.register("n1", slots=1, labels="tier=gold", ttl_ms=3_600_000)
    fence = shard.run("held")
    if by == "uncordon":
        shard.call("job_finish", "held", fence, "succeeded")
        shard.call("node_mark", "n1", "cordon")
    wait(shard, "j1", expect="unavailable" if by == "uncordon" else "overloaded")
    shard.put("gold", selector={"labels": {"tier": "platinum"}}, tenants=["acme"])
    if by == "uncordon":
        shard.call("node_mark", "n1", "uncordon")
    else:
        shard.call("job_finish", "held", fence, "succeeded" if by == "finish" else "released")
    assert state(shard, "j1") == ("pending", "")
    assert shard.call("node_heartbeat", "n1", incarnation, "labels", "tier=platinum")[0] == b"ok"
    assert state(shard, "j1") == ("claimed", "n1")


def test_many_jobs_that_a_node_handed_back_do_not_keep_it_from_those_behind_them(shard: Shard) -> None:
    fences = full(shard, slots=40)
    shard.call("node_mark", "n1", "drain")
    for number, fence in enumerate(fences):
        shard.call("job_finish", f"held{number}", fence, "released")
    wait(shard, "own", tenant="holder", priority=1, expect="unavailable")
    shard.call("node_mark", "n1", "uncordon")
    assert state(shard, "own") == ("claimed", "n1")
    assert {state(shard, f"held{number}")[0] for number in range(40)} == {"pending"}


def test_the_turns_of_very_many_tenants_are_not_all_kept(shard: Shard) -> None:
    (fence,) = full(shard)
    full(shard, "n2", capabilities="tts:en", prefix="other")
    wait(shard, "stays", requires="tts:en", tenant="stays")
    wait(shard, "j0", tenant="stays")
    shard.call("job_finish", "held0", fence, "succeeded")
    shard.client.hset(f"{P}:fair", mapping={f"t{number}": "5" for number in range(1_000)})
    wait(shard, "j1", tenant="last")
    shard.call("job_finish", "j0", shard.field("job:j0", "fence"), "succeeded")
    assert set(dump(shard.client)["fair"]) == {":", "stays", "last"}


def test_jobs_that_expire_together_have_the_reason_each(shard: Shard) -> None:
    tokens = " ".join(f"t{number}" for number in range(30))
    full(shard, capabilities=f"asr:zh {tokens}")
    for number in range(20):
        shard.register(f"busy{number}", f"asr:zh {tokens}", slots=1, ttl_ms=3_600_000)
        shard.run(f"busy{number}", f"busy{number}")
    for number in range(32):
        wait(shard, f"j{number}", requires=f"asr:zh {tokens}", wait_ms=500)
    shard.advance(500)
    assert shard.call("reap") == [b"reaped", 0, 0, 32]
    assert {shard.field(f"job:j{number}", "reason") for number in range(32)} == {"overloaded"}


def test_demands_of_new_jobs_leave_room_for_jobs_that_wait_again(shard: Shard) -> None:
    tokens = " ".join(f"t{number}" for number in range(128))
    (fence,) = full(shard, capabilities=f"asr:zh {tokens}")
    for number in range(128):
        tenant = f"o{number}"
        assert shard.claim(f"d{number}", requires=f"t{number}", tenant=tenant, wait_ms=60_000)[0] == b"waiting"
    shard.call("node_mark", "n1", "drain")
    shard.call("job_finish", "held0", fence, "released")
    assert state(shard, "held0") == ("pending", "")
    assert shard.claim("more", requires="asr:zh", wait_ms=5_000)[:2] == [b"crowded", b"demands"]


def test_reaping_serves_by_priority_too(shard: Shard) -> None:
    full(shard)
    for number in range(4):
        wait(shard, f"low{number}", tenant="low", priority=0)
    for number in range(24):
        wait(shard, f"high{number}", tenant="high", priority=9)
    shard.register("big", slots=20, ttl_ms=3_600_000)
    for _ in range(4):
        shard.call("reap")
    assert {job[:4] for job in dump(shard.client)["node:big:leases"]} == {"high"}
    assert len(dump(shard.client)["node:big:leases"]) == 20
