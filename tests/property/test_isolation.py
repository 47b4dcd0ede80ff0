"""Whatever is configured in whatever order, no claim lands outside the pools that its tenant has at that instant."""

import json
from contextlib import suppress
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lua.keyspace import dump
from tests.lua.shard import Shard

NODES, POOLS, TIERS, TOKENS = ("n0", "n1", "n2"), ("gold", "rest"), ("g", "r"), ("x", "y", "x y")
HOW: tuple[dict[str, Any], ...] = (
    *({}, {"affinity": "sticky"}, {"affinity": "spread"}),
    *({"offered": False}, {"look": False}, {"look": False, "last": True}),
)
node, pool, tier, tokens = (st.sampled_from(names) for names in (NODES, POOLS, TIERS, TOKENS))
tenants = st.sampled_from((["a"], ["b"], ["a", "b"], ["*"]))
selector = st.one_of(
    st.builds(lambda value: {"labels": {"tier": value}}, tier),
    st.builds(lambda value: {"capabilities": [value]}, st.sampled_from("xy")),
    st.just({"all": True}),
)
# only gold falls back, so that no cycle is drawn
configs = {
    name: st.fixed_dictionaries(
        {"selector": selector, "tenants": tenants, "fallback": st.sampled_from(falls), "priority": st.integers(0, 1)}
    )
    for name, falls in (("gold", ([], ["rest"])), ("rest", ([],)))
}
claim = st.tuples(
    st.just("claim"),
    st.tuples(st.sampled_from("ab"), tokens, st.sampled_from(("", "", *POOLS)), st.booleans()),
    st.lists(node, unique=True),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.sampled_from(HOW),
)
steps = st.one_of(
    *(st.tuples(st.just("put"), st.just(name), config, st.booleans()) for name, config in configs.items()),
    st.tuples(st.just("remove"), pool),
    st.tuples(st.just("apply"), st.fixed_dictionaries(configs), st.booleans()),
    st.tuples(st.just("register"), node, tokens, tier),
    st.tuples(st.just("heartbeat"), node, tokens, tier),
    *[st.tuples(st.just("look"))] * 4,
    *[claim] * 6,
)


class Fleet:
    """A shard, and a caller whose snapshot is as old as its last look."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.shard = client, Shard(client)
        self.incarnations: dict[str, str] = {}
        self.snapshot: dict[str, Any] = {}
        self.claims = 0

    def put(self, name: str, config: dict[str, Any], fresh: object) -> None:
        self._configured(fresh, "pool_put", name, json.dumps(config))

    def remove(self, name: str) -> None:
        self._configured(None, "pool_remove", name)

    def apply(self, pools: dict[str, Any], fresh: object) -> None:
        self._configured(fresh, "pools_apply", self.shard.meta("config_version"), json.dumps({"pools": pools}))

    def _configured(self, fresh: object, *call: str) -> None:
        with suppress(redis.ResponseError):  # a fallback that is not there, or a pool that is still fallen back to
            self.shard.call(*call)
        if fresh:  # the snapshot has the new pools before any node does
            self.look()

    def register(self, name: str, offered: str, label: str) -> None:
        self.incarnations[name] = self.shard.register(
            name, offered, slots=20, labels=f"tier={label}", ttl_ms=3_600_000
        )

    def heartbeat(self, name: str, offered: str, label: str) -> None:
        if name in self.incarnations:
            words = ("labels", f"tier={label}", "capabilities", offered)
            assert self.shard.call("node_heartbeat", name, self.incarnations[name], *words)[0] == b"ok"

    def look(self) -> None:
        self.snapshot = dump(self.client)

    def claim(self, who: tuple[str, str, str, bool], shown: list[str], ranks: list[int], how: dict[str, Any]) -> None:
        """With the snapshot's structures and versions, however old; ranks and `how` say anything."""
        self.claims += 1
        tenant, requires, named, fallback = who
        seen = [name for name in shown if set(requires.split()) <= self._offered(self.snapshot, name)]
        meta = self.snapshot.get("fleet:{0}", {"config_version": "0", "structure_version": "0"})
        body: dict[str, Any] = {"id": f"j{self.claims}", "digest": "d", "tenant": tenant, "pool": named}
        body |= {"demand": json.dumps({"any_of": [requires.split()]}), "fallback": fallback, "exclude": ""}
        body |= {"nodes": seen, "structures": [self.snapshot[f"node:{name}"]["structure"] for name in seen]}
        body |= {name: meta[name] for name in ("config_version", "structure_version")}
        body |= {"ranks": ranks[: len(seen)], "session": "s"} | how
        keys = dump(self.client)
        answer = self.shard.call("job_claim", msgpack.packb(body, use_bin_type=False))[1]
        if answer[0] == b"placed":
            on, through = answer[2].decode(), answer[4].decode()
            assert through in self._allowed(keys, tenant, named, fallback=fallback)
            assert self._selects(keys, through, on)
            assert set(requires.split()) <= self._offered(keys, on)

    def _offered(self, keys: dict[str, Any], name: str) -> set[str]:  # from here on by brute force from the raw keys
        return set(keys.get(f"node:{name}", {}).get("capabilities", "").split())

    def _pools(self, keys: dict[str, Any]) -> dict[str, Any]:
        if keys.get("fleet:{0}", {}).get("config_version", "0") == "0":
            return {"default": {"selector": {}, "tenants": ["*"], "fallback": []}}
        return {name: json.loads(text) for name, text in keys.get("pools", {}).items()}

    def _allowed(self, keys: dict[str, Any], tenant: str, named: str, *, fallback: bool) -> set[str]:
        pools = self._pools(keys)
        served = {name for name, held in pools.items() if {tenant, "*"} & set(held["tenants"])}
        if not named:
            return served
        behind = set(pools[named]["fallback"]) if fallback and named in served else set()
        return served & ({named} | behind)

    def _selects(self, keys: dict[str, Any], through: str, on: str) -> bool:
        wanted = self._pools(keys)[through]["selector"]
        labels = dict(pair.split("=") for pair in keys[f"node:{on}"]["labels"].split())
        return (
            set(wanted.get("capabilities", ())) <= self._offered(keys, on)
            and wanted.get("labels", {}).items() <= labels.items()
        )


@pytest.mark.one_shard("judges the keyspace of one shard by brute force")
@pytest.mark.timeout(400)  # a failure takes its time to be made small
@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=st.none() | st.fixed_dictionaries(configs), sequence=st.lists(steps, min_size=15, max_size=50))
def test_no_claim_lands_outside_the_pools_of_its_tenant(client: redis.Redis, first: Any, sequence: list[Any]) -> None:
    client.flushall()
    fleet = Fleet(client)
    if first:
        fleet.apply(first, None)
    for name, offered, label in zip(NODES, ("x", "y", "x y"), "grg", strict=True):
        fleet.register(name, offered, label)
    for name, *args in sequence:
        getattr(fleet, name)(*args)
