"""What a tenant may have at most: its rows, its leases in the whole of their life, and the jobs that wait for one."""

import json
from typing import Any

import msgpack
import pytest
import redis

from scheduler.domain.shards import home_tag
from scheduler.domain.tenants import share_of
from tests.lua.keyspace import P, changes, dump
from tests.lua.shard import Shard
from tests.lua.test_commands import counted

LEASES = "tenant:acme:leases"


def limit(shard: Shard, tenant: str = "acme", **quota: int) -> str:
    word, version = shard.call("tenant_put", tenant, json.dumps(quota))
    assert word == b"stored"
    return str(version.decode())


def leases(shard: Shard, tenant: str = "acme") -> list[str]:
    """The members, oldest first."""
    return [member.decode() for member in shard.client.zrange(f"{P}:tenant:{tenant}:leases", 0, -1)]  # type: ignore[union-attr]


def state(shard: Shard, job: str) -> str:
    return shard.field(f"job:{job}", "state")


def refused_full(shard: Shard, job: str, **fields: Any) -> bool:
    return shard.claim(job, "n1", **fields) == [b"refused", b"quota", []]


def test_a_row_is_stored_in_one_form_and_counts_at_once(shard: Shard) -> None:
    shard.register(slots=5)
    before = dump(shard.client)
    version = limit(shard, payload_bytes=9, concurrent_jobs=1)
    gone, new = changes(before, dump(shard.client))
    assert new.pop("events")[-1] == {"kind": "tenant_stored", "tenant": "acme"}
    assert gone.keys() == {P, "events"}
    row = '{"concurrent_jobs":1,"payload_bytes":9}'
    assert new == {P: {"tenants_version": version}, "tenants": {"acme": row}}
    shard.place()
    assert refused_full(shard, "j2")
    assert shard.claim("j3", "n1", tenant="other")[0] == b"placed"


def test_the_same_row_again_changes_nothing(shard: Shard) -> None:
    version = limit(shard, waiting_jobs=1)
    before = dump(shard.client)
    assert limit(shard, waiting_jobs=1) == version
    assert dump(shard.client) == before


def test_a_row_that_is_taken_out_limits_nobody(shard: Shard) -> None:
    shard.register(slots=5)
    limit(shard, concurrent_jobs=0)
    assert refused_full(shard, "j1")
    before = dump(shard.client)
    assert shard.call("tenant_remove", "acme") == [b"removed"]
    gone, new = changes(before, dump(shard.client))
    assert new.pop("events")[-1] == {"kind": "tenant_removed", "tenant": "acme"}
    assert gone.keys() == {P, "events", "tenants"}
    assert new.keys() == {P}
    assert shard.call("tenant_remove", "acme") == [b"unknown"]
    shard.place()


def test_everyones_row_is_for_those_without_one_of_their_own(shard: Shard) -> None:
    shard.register(slots=9)
    limit(shard, "*", concurrent_jobs=1)
    limit(shard, "gold", waiting_jobs=5)
    for tenant in ("acme", "other"):
        shard.place(f"{tenant}1", tenant=tenant)
        assert refused_full(shard, f"{tenant}2", tenant=tenant)
    for number in range(3):
        shard.place(f"gold{number}", tenant="gold")


def test_leases_that_were_there_before_the_row_count(shard: Shard) -> None:
    shard.register(slots=5)
    fences = [shard.place(f"j{number}") for number in range(3)]
    limit(shard, concurrent_jobs=2)
    assert refused_full(shard, "more")
    shard.call("job_finish", "j0", fences[0], "succeeded")
    assert refused_full(shard, "more"), "two are left of the three"
    shard.call("job_finish", "j1", fences[1], "succeeded")
    shard.place("more")


def test_the_same_job_again_is_told_where_it_is(shard: Shard) -> None:
    shard.register(slots=5)
    limit(shard, concurrent_jobs=1)
    shard.place()
    assert shard.claim("j1", "n1")[:2] == [b"exists", b"claimed"]


def test_a_refusal_reads_its_row_once_and_no_node(shard: Shard) -> None:
    shard.register(slots=5)
    limit(shard, concurrent_jobs=1)
    shard.place()
    assert counted(shard, "job_claim", shard.packed("j2", "n1")) == {"hmget": 1, "time": 1, "exists": 1, "zcard": 1}


def test_a_claim_without_a_quota_costs_one_read_where_others_have_one(shard: Shard) -> None:
    shard.register(slots=9)
    shard.place("warm")
    without = sum(counted(shard, "job_claim", shard.packed("j1", "n1")).values())
    limit(shard, "other", concurrent_jobs=1)
    for job, more in (("j2", 1), ("j3", 0)):
        made = counted(shard, "job_claim", shard.packed(job, "n1", tenant="free"))
        assert sum(made.values()) == without + more, "its row, once"


def test_what_no_node_offers_is_impossible_also_for_who_is_full(shard: Shard) -> None:
    shard.register()
    limit(shard, concurrent_jobs=0)
    answer = shard.claim("j1", requires="other", offered=False, wait_ms=5_000)
    assert answer[:2] == [b"refused", b"impossible"]


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "released"])
def test_the_first_that_waits_is_served_with_the_end_of_a_lease_although_nodes_were_free(
    shard: Shard, outcome: str
) -> None:
    shard.register("n1", slots=5)
    shard.register("n2", "gpu", slots=5)
    limit(shard, concurrent_jobs=1)
    fence = shard.run("j1", max_attempts=1)
    assert shard.claim("low", "n2", requires="gpu", wait_ms=60_000, priority=1)[0] == b"waiting"
    assert shard.claim("high", "n1", wait_ms=60_000, priority=8)[0] == b"waiting"
    assert dump(shard.client)["events"][-1]["reason"] == "quota"
    assert shard.call("job_finish", "j1", fence, outcome)[0] == b"finished"
    assert (state(shard, "high"), state(shard, "low")) == ("claimed", "pending")
    assert leases(shard) == ["high"]
    shard.call("job_cancel", "high")
    assert (state(shard, "low"), shard.field("job:low", "node")) == ("claimed", "n2")


def test_who_is_full_is_passed_over_and_keeps_nobody_waiting(shard: Shard) -> None:
    shard.register("n1", slots=2)
    limit(shard, concurrent_jobs=1)
    shard.run("mine")
    theirs = shard.run("theirs", tenant="other")
    assert shard.claim("waits", "n1", wait_ms=60_000, priority=9)[0] == b"waiting"
    assert shard.claim("next", "n1", tenant="third", wait_ms=60_000, priority=0)[0] == b"waiting"
    shard.call("job_finish", "theirs", theirs, "succeeded")
    assert (state(shard, "waits"), state(shard, "next")) == ("pending", "claimed")


def test_a_free_node_serves_no_more_than_the_quota(shard: Shard) -> None:
    shard.register("n1", slots=1)
    shard.run("held", tenant="holder")
    limit(shard, concurrent_jobs=2)
    for number in range(4):
        for tenant in ("acme", "other"):
            answer = shard.claim(f"{tenant}{number}", "n1", tenant=tenant, wait_ms=60_000)
            assert answer[0] == b"waiting"
    shard.register("n2", slots=9)
    assert len(leases(shard)) == 2
    assert len(leases(shard, "other")) == 4


def test_a_slot_that_is_not_confirmed_counts(shard: Shard) -> None:
    shard.register("n1", slots=5)
    limit(shard, concurrent_jobs=1)
    fence = shard.run("j1")
    assert shard.call("job_cancel", "j1") == [b"cancelled"]
    assert leases(shard) == [f"j1 {fence}"]
    assert shard.claim("j2", "n1", wait_ms=60_000)[0] == b"waiting"
    assert shard.call("job_finish", "j1", fence, "failed") == [b"duplicate"]
    assert (leases(shard), state(shard, "j2")) == (["j2"], "claimed")


def test_an_attempt_that_timed_out_holds_its_place_until_it_is_confirmed(shard: Shard) -> None:
    for node in ("n1", "n2"):
        shard.register(node, slots=1, ttl_ms=3_600_000)
    limit(shard, concurrent_jobs=1)
    fence = shard.run("j1", timeout_ms=500)
    shard.advance(600)
    shard.call("reap")
    assert (state(shard, "j1"), leases(shard)) == ("pending", [f"j1 {fence}"])
    assert shard.call("job_finish", "j1", fence, "failed") == [b"fenced"]
    assert (state(shard, "j1"), leases(shard)) == ("claimed", ["j1"])


def test_a_node_that_is_lost_gives_back_what_its_tenants_had(shard: Shard) -> None:
    shard.register("n1", slots=5, ttl_ms=1_000)
    shard.register("n2", slots=5, ttl_ms=3_600_000)
    limit(shard, concurrent_jobs=2)
    shard.run("j1", max_attempts=1)
    shard.run("j2", max_attempts=1)
    shard.call("job_cancel", "j2")
    for job in ("w1", "w2"):
        assert shard.claim(job, "n2", wait_ms=60_000)[0] == b"waiting"
    shard.advance(1_100)
    shard.beat("n2")
    shard.call("reap")
    assert (state(shard, "j1"), sorted(leases(shard))) == ("failed", ["w1", "w2"])


def test_a_held_slot_counts_until_it_is_the_jobs_or_lapses(shard: Shard) -> None:
    shard.register("n1", slots=5)
    limit(shard, concurrent_jobs=1)
    held = {"digest": "-", "hold_ms": 2_000}
    assert shard.claim("h1", "n1", hold="h1", **held)[0] == b"held"
    assert leases(shard) == ["h1"]
    assert shard.claim("h2", "n1", hold="h2", **held)[:2] == [b"refused", b"quota"]
    assert shard.claim("j1", hold="h1")[0] == b"placed"
    assert leases(shard) == ["j1"]
    shard.call("job_cancel", "j1")
    assert shard.claim("h3", "n1", hold="h3", **held)[0] == b"held"
    assert shard.claim("w1", "n1", wait_ms=60_000)[0] == b"waiting"
    shard.advance(2_100)
    shard.call("reap")
    assert leases(shard) == ["w1"]


def test_more_is_served_as_soon_as_the_quota_allows_it(shard: Shard) -> None:
    shard.register("n1", slots=9)
    limit(shard, concurrent_jobs=1)
    shard.place("j0")
    for number in range(1, 5):
        assert shard.claim(f"j{number}", "n1", wait_ms=60_000)[0] == b"waiting"
    limit(shard, concurrent_jobs=3)
    assert len(leases(shard)) == 3
    assert shard.call("tenant_remove", "acme") == [b"removed"]
    assert len(leases(shard)) == 5


def test_who_waits_in_vain_is_told_that_it_was_the_quota(shard: Shard) -> None:
    shard.register("n1", slots=9)
    limit(shard, concurrent_jobs=0)
    assert shard.claim("j1", "n1", wait_ms=500)[0] == b"waiting"
    shard.advance(600)
    shard.call("reap")
    assert (state(shard, "j1"), shard.field("job:j1", "reason")) == ("expired", "quota")


def test_no_more_jobs_wait_than_may_and_an_accepted_one_waits_again(shard: Shard) -> None:
    shard.register("n1", slots=1)
    limit(shard, waiting_jobs=2)
    fence = shard.run("j0")
    for job in ("j1", "j2"):
        assert shard.claim(job, "n1", wait_ms=60_000)[0] == b"waiting"
    before = dump(shard.client)
    assert shard.claim("j3", "n1", wait_ms=60_000)[:2] == [b"crowded", b"waiting_jobs"]
    assert dump(shard.client) == before
    shard.call("node_mark", "n1", "drain")
    assert shard.call("job_finish", "j0", fence, "released") == [b"finished"]
    assert state(shard, "j0") == "pending"
    limit(shard, waiting_jobs=0)
    assert shard.claim("j4", "n1", tenant="other", wait_ms=60_000)[0] == b"waiting"


def test_a_quota_of_waiting_jobs_stands_in_place_of_the_fleets(shard: Shard) -> None:
    shard.register("n1", slots=1)
    shard.run("held", tenant="holder")
    limit(shard, waiting_jobs=1_001)
    for number in range(1_001):
        assert shard.claim(f"j{number}", "n1", wait_ms=60_000)[0] == b"waiting"
    assert shard.claim("more", "n1", wait_ms=60_000)[:2] == [b"crowded", b"waiting_jobs"]


TAGS = ("0", "1", "2")


@pytest.fixture
def divided(client: redis.Redis) -> list[tuple[Shard, str]]:
    """Three shards, each with one node of its own."""
    if client.info("cluster")["cluster_enabled"]:
        pytest.skip("its keys lie on several servers")
    parts = []
    for tag in TAGS:
        part = Shard(client, f"{P[:-2]}{tag}}}")
        assert part.call("shard_init", " ".join(TAGS)) == [b"initialised"]
        node = next(name for number in range(1_000) if home_tag(TAGS, name := f"n{number}") == tag)
        part.register(node, slots=20)
        parts.append((part, node))
    return parts


@pytest.mark.parametrize("whole", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("tenant", ["acme", "other", "third"])
def test_the_parts_of_all_shards_add_up(divided: list[tuple[Shard, str]], tenant: str, whole: int) -> None:
    given = []
    for part, node in divided:
        rows = json.dumps({tenant: {"concurrent_jobs": whole}})
        assert part.call("tenants_apply", 0, rows, 1)[0] == b"applied"
        answers = [part.claim(f"j{number}", node, tenant=tenant)[0] for number in range(10)]
        given.append(answers.count(b"placed"))
    assert given == [share_of(TAGS, tag, tenant, whole) for tag in TAGS]
    assert sum(given) == whole
    assert max(given) - min(given) <= 1


def test_a_part_is_lent_only_as_far_as_it_is_not_used(divided: list[tuple[Shard, str]]) -> None:
    for part, _ in divided:
        part.call("tenants_apply", 0, '{"acme":{"concurrent_jobs":6,"waiting_jobs":3}}', 1)
    (one, node), (two, other), _ = divided
    assert one.claim("a1", node)[0] == b"placed"
    assert one.call("tenant_lend", "acme", "concurrent_jobs", "give", 5) == [b"given", 1, b"1"], "of its two"
    assert one.call("tenant_lend", "acme", "concurrent_jobs", "give", 5) == [b"given", 0, b"1"]
    assert one.claim("a2", node)[:2] == [b"refused", b"quota"]
    for number in range(2):
        assert two.claim(f"b{number}", other)[0] == b"placed"
    assert two.claim("b2", other, wait_ms=60_000)[0] == b"waiting"
    assert two.call("tenant_lend", "acme", "waiting_jobs", "give", 5) == [b"given", 0, b"1"], "its one waits"
    assert two.call("tenant_lend", "acme", "concurrent_jobs", "take", 1, 2) == [b"changed"]
    assert two.call("tenant_lend", "acme", "concurrent_jobs", "take", 1, 1) == [b"taken"]
    assert state(two, "b2") == "claimed", "what waited for it has it at once"
    assert two.call("job_finish", "b0", two.field("job:b0", "fence"), "succeeded") == [b"finished"]
    assert [two.claim(job, other)[0] for job in ("b3", "b4")] == [b"placed", b"refused"]
    lent = "concurrent_jobs acme"
    assert [part.field("lent", lent) for part, _ in divided] == ["-1", "1", ""]
    for part, _ in divided:
        part.call("tenants_apply", 0, '{"acme":{"concurrent_jobs":6}}', 2)
    assert [part.field("lent", lent) for part, _ in divided] == [""] * 3, "with a change each has its part again"
    assert two.claim("b5", other)[:2] == [b"refused", b"quota"]


def test_a_shard_that_is_told_of_others_gives_less(shard: Shard) -> None:
    limit(shard, concurrent_jobs=4)
    shard.register("n1", slots=9)
    assert [shard.claim(f"a{number}", "n1")[0] for number in range(5)].count(b"placed") == 4
    for number in range(4):
        shard.call("job_cancel", f"a{number}")
    shard.call("node_remove", "n1", shard.field("node:n1", "incarnation"))
    assert shard.call("shard_init", "0 1") == [b"initialised"]
    node = next(name for number in range(1_000) if home_tag(("0", "1"), name := f"n{number}") == "0")
    shard.register(node, slots=9)
    assert [shard.claim(f"b{number}", node)[0] for number in range(5)].count(b"placed") == 2


def test_a_copy_is_taken_once_and_what_was_forgotten_is_taken_back(shard: Shard) -> None:
    rows = json.dumps({"acme": {"concurrent_jobs": 3}, "*": {}})
    word, version = shard.call("tenants_apply", 0, rows, 7)
    assert word == b"applied"
    assert dump(shard.client)["tenants"] == {"acme": '{"concurrent_jobs":3}', "*": "{}"}
    before = dump(shard.client)
    for source in (6, 7):
        assert shard.call("tenants_apply", 0, "{}", source) == [b"changed", version]
    assert shard.call("tenants_apply", 0, "{}") == [b"changed", version]
    assert dump(shard.client) == before
    assert shard.call("tenants_apply", version, "{}")[0] == b"applied"
    assert "tenants" not in dump(shard.client)
    assert dump(shard.client)["events"][-1] == {"kind": "tenants_applied", "tenants": "0"}


def test_only_the_first_shard_takes_rows(shard: Shard) -> None:
    if shard.client.info("cluster")["cluster_enabled"]:
        pytest.skip("the other shard may lie on another server")
    other = Shard(shard.client, "fleet:{1}")
    other.call("shard_init", "0 1")
    for name, args in (("tenant_put", ("acme", "{}")), ("tenant_remove", ("acme",)), ("tenants_apply", (0, "{}"))):
        with pytest.raises(Exception, match="BADARG key must be that of the first shard"):
            other.call(name, *args)


def test_no_more_than_a_thousand_rows(shard: Shard) -> None:
    rows = json.dumps({f"t{number}": {"waiting_jobs": 1} for number in range(1_000)})
    assert shard.call("tenants_apply", 0, rows)[0] == b"applied"
    limit(shard, "t7", waiting_jobs=2)
    with pytest.raises(Exception, match="BADARG tenant would be one more than 1000 rows"):
        limit(shard, "one-more", waiting_jobs=2)


def test_a_mirror_is_told_of_rows_that_it_does_not_hold(shard: Shard) -> None:
    shard.register()
    version = limit(shard, requests_per_s=5)
    told = shard.call("mirror_read", 0, 0, "", 100, 0, 0)
    assert told[4:] == [int(version), [b"acme", b'{"requests_per_s":5}'], 0]
    assert shard.call("mirror_read", 0, 0, "", 100, 0, version)[4:] == [int(version), [], 0]
    assert len(msgpack.unpackb(told[1])) == 9


def explained(shard: Shard, **asked: Any) -> list[Any]:
    answer = shard.call("explain", json.dumps({"requires": ["asr:zh"], "tenant": "acme"} | asked))
    return [answer[1], dict(zip(answer[3][::2], answer[3][1::2], strict=True)), sorted(answer[5]), answer[6]]


def test_explain_says_that_it_is_the_quota(shard: Shard) -> None:
    shard.register("n1", slots=2)
    shard.register("n2", slots=1)
    limit(shard, concurrent_jobs=1)
    shard.place("j1", "n2")
    assert explained(shard) == [
        b"quota",
        {b"full": 1, b"quota": 1},
        [[b"n1", b"default", b"quota", b"quota"], [b"n2", b"default", b"full", b"full", b"quota"]],
        [b"n1", b"quota"],
    ]
    assert explained(shard, requires=["other"])[0] == b"impossible"
    assert explained(shard, tenant="other")[0] == b"placeable"
