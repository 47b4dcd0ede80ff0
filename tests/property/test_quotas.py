"""Whatever happens in whatever order: no tenant gets more than its quota, and none waits while it has room."""

import asyncio
import json
import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scheduler.engine.mirror import Mirror
from scheduler.placement.snapshot import Snapshot
from scheduler.store.client import connect
from scheduler.store.functions import Functions
from tests.lua.keyspace import P
from tests.property.test_claims import NODES, Fleet, node, picked, steps

TENANTS = ("acme", "other")
HOLD_MS = 2_000

named = st.sampled_from((*TENANTS, "*"))
quotas = st.one_of(
    *[st.tuples(st.just("limit"), named, st.sampled_from((0, 1, 1, 2, 3)))] * 2,
    st.tuples(st.just("spare"), named),
    st.tuples(st.just("hold"), st.lists(node, unique=True), st.sampled_from(TENANTS)),
    st.tuples(st.just("commit"), picked),
    st.tuples(st.just("drop"), picked),
)


class Limited(Fleet):
    """The same fleet with quotas and held slots."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rows: dict[str, int] = {}
        self.holds: list[tuple[str, str]] = []

    def step(self, name: str, *args: Any) -> None:
        super().step(name, *args)
        self.leases_are_the_slots_that_tenants_occupy()
        self.nobody_gets_more_than_its_quota()

    # what may happen, too

    def limit(self, tenant: str, most: int) -> None:
        assert self.shard.call("tenant_put", tenant, json.dumps({"concurrent_jobs": most}))[0] == b"stored"
        self.rows[tenant] = most

    def spare(self, tenant: str) -> None:
        known = self.rows.pop(tenant, None) is not None
        assert self.shard.call("tenant_remove", tenant) == [b"removed" if known else b"unknown"]

    def hold(self, shortlist: list[str], tenant: str) -> None:
        token = f"h{len(self.holds)}"
        answer = self.shard.claim(token, *shortlist, tenant=tenant, digest="-", hold=token, hold_ms=HOLD_MS)
        assert answer[0] in {b"held", b"refused", b"again"}, answer
        self.holds.append((token, tenant))

    def commit(self, number: int) -> None:
        if self.holds:
            token, tenant = self.holds[number % len(self.holds)]
            job = f"j{len(self.fences)}"
            answer = self.shard.claim(job, hold=token, tenant=tenant)
            if answer[0] == b"placed":
                self.fences[job] = answer[5].decode()
            else:
                assert answer == [b"lapsed"]

    def drop(self, number: int) -> None:
        if self.holds:
            self.shard.call("hold_drop", self.holds[number % len(self.holds)][0])

    # what must hold

    def full(self, keys: dict[str, Any], tenant: str) -> bool:
        most = self.rows.get(tenant, self.rows.get("*"))
        return most is not None and len(keys.get(f"tenant:{tenant}:leases", ())) >= most

    def leases_are_the_slots_that_tenants_occupy(self) -> None:
        """Found by brute force: in the leases of nodes, and of those that are gone and not reaped yet."""
        occupied: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
        for key, value in self.keys.items():
            if key.startswith("hold:") and value:
                # until it lapses, also where its node is gone
                occupied[value.split()[4]].add(key.removeprefix("hold:"))
            gone = key.startswith("orphan:") and not key.endswith(":ending")
            if not gone and not (key.startswith("node:") and key.endswith(":leases")):
                continue
            endings = self.keys.get(f"{key.removesuffix(':leases')}:ending", {})
            for member in value:
                if job := self.keys.get(f"job:{member}"):
                    fence = endings.get(member, "").partition(" ")[0]
                    if fence and f"ending:{fence}" in job:
                        occupied[job["tenant"]].add(f"{member} {fence}")
                    elif not fence and (not gone or self._lives(key, job)):
                        occupied[job["tenant"]].add(member)
        for tenant in TENANTS:
            assert set(self.keys.get(f"tenant:{tenant}:leases", ())) == occupied[tenant], tenant

    def _lives(self, key: str, job: dict[str, str]) -> bool:
        owner = f"orphan:{job.get('node')}:{job.get('incarnation')}"
        return key == owner and job["state"] in {"claimed", "running"}

    def nobody_gets_more_than_its_quota(self) -> None:
        """What it had before it was limited may be more, and becomes no more."""
        for tenant in TENANTS:
            most = self.rows.get(tenant, self.rows.get("*"))
            had = len(self.before.get(f"tenant:{tenant}:leases", ()))
            has = len(self.keys.get(f"tenant:{tenant}:leases", ()))
            assert most is None or has <= max(most, had), (tenant, has)

    def passed_over(self, job: str) -> bool:
        return self.full(self.keys, self.keys[f"job:{job}"]["tenant"])


@pytest.mark.one_shard("judges the keyspace of one shard by brute force")
@pytest.mark.timeout(400)  # a failure takes its time to be made small
@settings(
    max_examples=int(os.environ.get("FLEET_QUOTAS_EXAMPLES", "30")),
    deadline=None,
    database=None,
    phases=[Phase.generate] if "FLEET_QUOTAS_EXAMPLES" in os.environ else list(Phase),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(st.one_of(steps, steps, quotas), min_size=15, max_size=30))
def test_whatever_happens_quotas_hold(client: redis.Redis, redis_url: str, sequence: list[tuple[Any, ...]]) -> None:
    client.flushall()
    with asyncio.Runner() as runner:
        connected = connect(redis_url)
        mirror = Mirror(Functions(connected, P), 200)

        def refresh() -> Snapshot:
            runner.run(mirror.refresh())
            return mirror.snapshot

        fleet = Limited(client, refresh)
        try:
            for name in NODES[:2]:
                fleet.step("register", name, 2)
            fleet.step("limit", "acme", 1)
            for step in sequence:
                fleet.step(*step)
                told = {name: row.concurrent_jobs for name, row in mirror.quotas.rows.items()}
                assert told == fleet.rows, "a replica knows every quota"
            fleet.step("reap")
        finally:
            runner.run(connected.aclose())
