"""What a caller does who says who it is stands in the audit, beside the event; nothing else differs for it."""

import json
from collections.abc import Callable

import pytest
import redis

from tests.lua.keyspace import changes, dump, exact
from tests.lua.shard import Shard

BY = "key:k1"
POOL = json.dumps({"selector": {"capabilities": ["asr:zh"]}})
Seed = Callable[[Shard], tuple[str | int, ...]]


def node(shard: Shard) -> tuple[str | int, ...]:
    shard.register()
    return ("n1",)


def incarnation(shard: Shard) -> tuple[str | int, ...]:
    return ("n1", shard.register())


def pool(shard: Shard) -> tuple[str | int, ...]:
    shard.call("pool_put", "gold", POOL)
    return ("gold",)


def job(shard: Shard) -> tuple[str | int, ...]:
    shard.register()
    shard.place()
    return ("j1",)


def nothing(_: Shard) -> tuple[str | int, ...]:
    return ()


KEY = json.dumps({"hash": "a" * 64, "tenant": "acme", "role": "submit", "created_at_ms": 1})


def apikey(shard: Shard) -> tuple[str | int, ...]:
    shard.call("apikey_put", "abcdefgh", KEY)
    return ("abcdefgh",)


def tenant(shard: Shard) -> tuple[str | int, ...]:
    shard.call("tenant_put", "acme", "{}")
    return ("acme",)


# An event for everybody would tell of keys.
SILENT = {"apikey_put", "apikey_remove"}
ACTS: list[tuple[str, Seed, tuple[str, ...], dict[str, str]]] = [
    ("node_mark", node, ("cordon", ""), {"kind": "node_cordoned", "node": "n1"}),
    ("node_mark", node, ("drain", "5000"), {"kind": "node_draining", "node": "n1"}),
    ("node_remove", incarnation, (), {"kind": "node_removed", "node": "n1", "reason": "left"}),
    ("pool_put", nothing, ("gold", POOL), {"kind": "pool_stored", "pool": "gold"}),
    ("pool_remove", pool, (), {"kind": "pool_removed", "pool": "gold"}),
    ("pools_apply", nothing, ("0", json.dumps({"pools": {}}), ""), {"kind": "pools_applied", "pools": "0"}),
    ("tenant_put", nothing, ("acme", '{"waiting_jobs": 3}'), {"kind": "tenant_stored", "tenant": "acme"}),
    ("tenant_remove", tenant, (), {"kind": "tenant_removed", "tenant": "acme"}),
    (
        "apikey_put",
        nothing,
        ("abcdefgh", KEY, ""),
        {"kind": "apikey_stored", "apikey": "abcdefgh", "tenant": "acme", "role": "submit"},
    ),
    ("apikey_remove", apikey, (), {"kind": "apikey_removed", "apikey": "abcdefgh"}),
    ("job_cancel", job, (), {"kind": "job_cancelled", "job": "j1", "tenant": "acme"}),
]
each = pytest.mark.parametrize(("name", "seed", "rest", "told"), ACTS, ids=[f"{a[0]}-{a[3]['kind']}" for a in ACTS])


@each
def test_who_acts_is_told_beside_what_happened(
    shard: Shard, name: str, seed: Seed, rest: tuple[str, ...], told: dict[str, str]
) -> None:
    given = seed(shard)
    before = dump(shard.client)
    shard.call(name, *given, *rest, BY)
    _, new = changes(before, dump(shard.client))
    assert new["audit"] == [{"kind": told["kind"], "by": BY} | told]
    if name not in SILENT:
        assert new["events"][-1].items() >= told.items()


@each
def test_without_a_name_nothing_is_told(
    shard: Shard, name: str, seed: Seed, rest: tuple[str, ...], told: dict[str, str]
) -> None:
    shard.call(name, *seed(shard), *rest)
    state = dump(shard.client)
    assert name in SILENT or state["events"][-1]["kind"] == told["kind"]
    assert "audit" not in state


@each
@pytest.mark.parametrize("bad", ["a b", "x" * 129, "a\nb", "é"])
def test_a_name_that_cannot_stand_there_changes_nothing(
    shard: Shard, name: str, seed: Seed, rest: tuple[str, ...], told: dict[str, str], bad: str
) -> None:
    given = seed(shard)
    before = exact(shard.client)
    with pytest.raises(redis.ResponseError, match=r"^BADARG by must be at most 128 characters"):
        shard.call(name, *given, *rest, bad)
    assert exact(shard.client) == before, told


def test_what_changes_nothing_is_not_told(shard: Shard) -> None:
    shard.register()
    shard.call("node_mark", "n1", "cordon", "", BY)
    shard.call("node_mark", "n1", "cordon", "", BY)
    shard.call("pool_put", "gold", POOL, BY)
    shard.call("pool_put", "gold", POOL, BY)
    shard.call("pool_remove", "silver", BY)
    assert [line["kind"] for line in dump(shard.client)["audit"]] == ["node_cordoned", "pool_stored"]


def test_a_caller_who_may_not_write_the_audit_does_what_it_may(shard: Shard) -> None:
    shard.register()
    key = f"~{shard.key}"
    rules = [key, *(f"{key}:{rest}" for rest in ("node:*", "free", "changed", "events", "pending", "fair"))]
    shard.client.execute_command("ACL", "SETUSER", "one", "on", "nopass", "+@all", *rules)
    port = shard.client.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port, username="one", password="any", socket_timeout=10) as limited:
        assert limited.fcall("fleet1_node_mark", 1, shard.key, "n1", "cordon", "", BY) == [b"marked", b"cordoned"]
    shard.client.execute_command("ACL", "DELUSER", "one")
    assert "audit" not in dump(shard.client)


def test_it_is_trimmed(shard: Shard) -> None:
    shard.register()
    with shard.client.pipeline(transaction=False) as pipe:
        for number in range(10_300):
            mark = "uncordon" if number % 2 else "cordon"
            pipe.execute_command("FCALL", "fleet1_node_mark", 1, shard.key, "n1", mark, "", BY)
        pipe.execute()
    assert 10_000 <= shard.client.xlen(f"{shard.key}:audit") < 10_200
