"""The judge of the races sees what it is there for: each rule broken on purpose turns it red."""

import json

import pytest
import redis

from scheduler.domain.ids import NodeId
from tests.lua.shard import Shard
from tests.race.audited import audited_library, read_audit

_SERVES = "return pool.serves['*'] or pool.serves[tenant] or false"
_OFFERED = "      all = all and redis.call('SISMEMBER', S.P .. ':cap:' .. token, id) == 1"
_COMPLETE = "  if not node then return refuse(S, claim, order, complete) end"
_FULL = "return most ~= nil and redis.call('ZCARD', tenant_leases_key(S, tenant)) >= most"
_KNOWN = "if seen[1] ~= structure or seen[2] ~= S.config_version then return nil end"


def judged(client: redis.Redis, *sabotage: tuple[str, str]) -> dict[str, int]:
    """What the judge says of a few claims of two tenants, before and after a pool has moved to other nodes."""
    client.execute_command("FUNCTION", "LOAD", "REPLACE", audited_library(*sabotage))
    shard = Shard(client)
    gold: dict[str, object] = {"selector": {"labels": {"tier": "gold"}}, "tenants": ["a"]}
    shard.call("pool_put", "gold", json.dumps(gold))
    shard.call("tenant_put", "c", '{"concurrent_jobs":1}')
    shard.register("g1", "x", labels="tier=gold", ttl_ms=3_600_000)
    shard.register("s1", "y", labels="tier=silver", ttl_ms=3_600_000)
    shard.claim("j1", "g1", tenant="a", requires="x")
    shard.claim("j2", "g1", tenant="b", requires="x")
    shard.claim("j3", "g1", tenant="a", requires="y", known=False)
    shard.claim("j4", "g1", tenant="b", requires="x", pool="gold")
    shard.claim("j6", "g1", tenant="a", requires="x", exclude=frozenset({NodeId("g1")}))
    shard.claim("j7", tenant="a", requires="z", pool="gold")
    shard.call("pool_put", "gold", json.dumps(gold | {"selector": {"labels": {"tier": "silver"}}}))
    shard.claim("j5", "g1", tenant="a", requires="x")
    # the pools serve nobody else any more
    shard.call("pool_put", "silver", json.dumps({"selector": {"labels": {"tier": "silver"}}, "tenants": ["c"]}))
    shard.claim("k1", "s1", tenant="c", requires="y")
    shard.claim("k2", "s1", tenant="c", requires="y")
    return read_audit(client)


def test_the_judge_finds_no_fault_with_the_library(client: redis.Redis) -> None:
    assert judged(client) == {"placed": 2, "refused": 5, "denied": 1, "limited": 1}


@pytest.mark.parametrize(
    ("line", "broken", "fault"),
    [
        (_SERVES, "return true", "placed_outside"),
        (_KNOWN, "if seen[1] ~= structure then return nil end", "placed_outside"),
        (_OFFERED, "      all = token ~= id", "placed_without_capability"),
        (_FULL, "return false", "placed_over_quota"),
        (_FULL, "return most ~= nil", "limited_in_vain"),
        (
            _COMPLETE,
            "  if claim.id == 'j1' then return refuse(S, claim, order, true) end\n" + _COMPLETE,
            "refused_in_vain",
        ),
        (_SERVES, "return false", "denied_in_vain"),
        (
            "  local class = 'impossible'",
            "  if order then return 'impossible' end\n  local class",
            "called_impossible",
        ),
        (
            "    if free[i] == 1 and not late and not claim.excluded[id] and not (unfit and unfit[i]) then",
            "    if free[i] == 1 then",
            "placed_on_who_takes_none",
        ),
    ],
)
def test_the_judge_sees_a_rule_that_is_broken(client: redis.Redis, line: str, broken: str, fault: str) -> None:
    assert judged(client, (line, broken)).get(f"bad:{fault}", 0) > 0
