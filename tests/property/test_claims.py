"""Whatever happens in whatever order, these hold: the safety properties of claims, leases and the free set."""

import asyncio
import itertools
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scheduler.domain.ids import NodeId
from scheduler.engine.mirror import Mirror
from scheduler.placement.snapshot import Snapshot
from scheduler.store.client import connect
from scheduler.store.functions import Functions
from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard

NODES = ("n0", "n1", "n2")
CPU_MAX = 85
# on a grid that no deadline misses by less than half a second, so that real time decides nothing
JUMPS_MS = (500, 1_500, 3_500, 10_500, 61_000, 600_500)

OFFERS = ("asr:zh", "asr:zh tts:en", "tts:en")

node = st.sampled_from(NODES)
asked = st.fixed_dictionaries(
    {
        "requires": st.sampled_from(("asr:zh", "asr:zh", "tts:en")),
        "tenant": st.sampled_from(("acme", "other")),
        "deliver": st.sampled_from(("inbox", "inbox", "direct")),
        "wait_ms": st.sampled_from((0, 2_000, 60_000)),
        "exclude": st.sampled_from(((), (), ("n0",))).map(lambda names: frozenset(map(NodeId, names))),
        "retry_failed": st.booleans(),
        "priority": st.sampled_from((5, 5, 9)),
    }
)
picked = st.integers(0, 9)
steps = st.one_of(
    st.tuples(st.just("register"), node, st.integers(1, 3), st.sampled_from(OFFERS)),
    st.tuples(st.just("heartbeat"), node, st.sampled_from((None, 10, 85, 99)), st.sampled_from((None, 1, 3))),
    st.tuples(st.just("mark"), node, st.sampled_from(("cordon", "uncordon", "drain"))),
    *[st.tuples(st.just("claim"), st.lists(node, unique=True), asked)] * 4,
    st.tuples(st.just("start"), picked),
    st.tuples(st.just("finish"), picked, st.sampled_from(("succeeded", "failed", "released"))),
    st.tuples(st.just("cancel"), picked),
    st.tuples(st.just("stale"), picked, st.sampled_from((-1, 1))),
    st.tuples(st.just("reap")),
    st.tuples(st.just("jump"), st.sampled_from(JUMPS_MS)),
)


class Fleet:
    """One shard, what a caller of it would remember, and the properties that are looked at after each step."""

    def __init__(self, client: redis.Redis, refresh: Callable[[], Snapshot]) -> None:
        self.shard = Shard(client)
        self.client = client
        self.refresh = refresh
        self.incarnations: dict[str, str] = {}
        self.fences: dict[str, str] = {}
        self.keys: dict[str, Any] = {}
        self.before: dict[str, Any] = {}

    def step(self, name: str, *args: Any) -> None:
        before = self.before = self.keys = dump(self.client)
        getattr(self, name)(*args)
        self.keys = dump(self.client)
        # a job may have been placed again under a new fence
        self.fences = {job: self.keys[f"job:{job}"].get("fence", "1") for job in self.fences}
        self.no_claim_exceeds_slots_or_lands_on_a_marked_node(before)
        self.a_job_has_at_most_one_live_lease()
        self.every_job_has_ended_waits_or_has_an_owner()
        self.free_is_the_nodes_that_could_take_a_job()
        self.a_fence_never_falls(before)
        self.the_snapshot_equals_redis()

    # what may happen

    def register(self, name: str, slots: int, offers: str = OFFERS[0]) -> None:
        self.incarnations[name] = self.shard.register(name, offers, slots=slots, cpu_max=CPU_MAX)

    def heartbeat(self, name: str, cpu: int | None, slots: int | None) -> None:
        fields = {"cpu": cpu, "slots": slots}
        words = [str(word) for pair in fields.items() if pair[1] is not None for word in pair]
        known = self.keys.get(f"node:{name}", {"state": "lost"})["state"] != "lost"
        answer = self.shard.call("node_heartbeat", name, self.incarnations.get(name, "1"), *words)
        assert answer[0] == (b"ok" if known else b"unknown")

    def mark(self, name: str, mark: str) -> None:
        self.shard.call("node_mark", name, mark)

    def claim(self, shortlist: list[str], fields: dict[str, Any]) -> None:
        job = f"j{len(self.fences)}"
        answer = self.shard.claim(job, *shortlist, **fields)
        if answer[0] in {b"placed", b"waiting"}:
            self.fences[job] = answer[5].decode() if answer[0] == b"placed" else "1"
        else:
            assert answer[0] in {b"refused", b"again"}, answer
            assert f"job:{job}" not in dump(self.client)

    def _job(self, number: int) -> str | None:
        return sorted(self.fences)[number % len(self.fences)] if self.fences else None

    def start(self, number: int) -> None:
        if job := self._job(number):
            self.shard.call("job_start", job, self.fences[job])

    def finish(self, number: int, outcome: str) -> None:
        if job := self._job(number):
            self.shard.call("job_finish", job, self.fences[job], outcome)

    def cancel(self, number: int) -> None:
        if job := self._job(number):
            self.shard.call("job_cancel", job)

    def stale(self, number: int, off: int) -> None:
        """A stale fence, and a stale incarnation, change nothing."""
        before = exact(self.client)
        if (job := self._job(number)) and self.fences[job] != "1":
            fence = int(self.fences[job]) + off
            for call, *more in (("job_start",), ("job_finish", "succeeded"), ("job_finish", "released")):
                assert self.shard.call(call, job, fence, *more) == [b"fenced"]
        for name, incarnation in self.incarnations.items():
            wrong = int(incarnation) + off
            assert self.shard.call("node_heartbeat", name, wrong, "cpu", 99)[0] in {b"fenced", b"unknown"}
            assert self.shard.call("node_remove", name, wrong)[0] in {b"fenced", b"unknown"}
        assert exact(self.client) == before

    def reap(self) -> None:
        """Reaping is idempotent, and leaves nothing that is due."""
        self.shard.call("reap")
        after = self.keys = dump(self.client)
        self.free_is_the_nodes_that_could_take_a_job()
        clock = int(self.shard.meta("clock"))
        overdue = [name for name, deadline in after.get("nodes", {}).items() if deadline <= clock]
        overdue += [job for job, deadline in after.get("leases", {}).items() if deadline <= clock]
        assert (overdue, "orphans" in after) == ([], False)
        assert self.shard.call("reap") == [b"reaped", 0, 0, 0]
        assert dump(self.client) == after
        self.no_job_waits_while_a_slot_that_could_run_it_is_free()

    def jump(self, ms: int) -> None:
        if self.client.exists(P):
            self.shard.advance(ms)

    # what must hold

    def _used(self, keys: dict[str, Any], name: str) -> int:
        return len(keys.get(f"node:{name}:leases", ()))

    def no_claim_exceeds_slots_or_lands_on_a_marked_node(self, before: dict[str, Any]) -> None:
        for name in NODES:
            if self._used(self.keys, name) > self._used(before, name):
                held = self.keys[f"node:{name}"]
                assert self._used(self.keys, name) <= int(held["slots"])
                assert held["state"] == "ready"

    def a_job_has_at_most_one_live_lease(self) -> None:
        """Exactly one while it is claimed or running, of its node's set or of those set apart with its node."""
        held: list[str] = []
        for key, value in self.keys.items():
            of_node = key.startswith("node:") and key.endswith(":leases")
            if of_node or (key.startswith("orphan:") and not key.endswith(":ending")):
                # a slot may outlive its attempt, until its node confirms; the job may have another attempt by then
                over = self.keys.get(f"{key.removesuffix(':leases')}:ending", {})
                jobs = [job for job in value if job in self.fences]
                held += [job for job in jobs if job not in over and self._owns(key, job)]
        assert len(held) == len(set(held))
        live = {job for job in self.fences if self.keys.get(f"job:{job}", {}).get("state") in {"claimed", "running"}}
        assert live <= set(held)
        assert set(self.keys.get("leases", ())) & self.fences.keys() == live

    def _owns(self, key: str, job: str) -> bool:
        """Of a gone incarnation's leases only those are alive whose job has not been placed again since."""
        found = self.keys[f"job:{job}"]
        return not key.startswith("orphan:") or key == f"orphan:{found.get('node')}:{found.get('incarnation')}"

    def every_job_has_ended_waits_or_has_an_owner(self) -> None:
        keys = self.keys
        queued = {job for key, jobs in keys.items() if key.startswith("queue:") for job in jobs}
        for job in self.fences:
            held = keys[f"job:{job}"]
            if held["state"] in {"claimed", "running"}:
                owner = keys.get(f"node:{held['node']}", {}).get("incarnation") == held["incarnation"]
                orphan = job in keys.get(f"orphan:{held['node']}:{held['incarnation']}", ())
                assert owner or orphan
            assert (held["state"] == "pending") == (job in queued) == (job in keys.get("pending", ()))
        assert bool(queued) == ("waiting" in keys)

    def passed_over(self, job: str) -> bool:
        """Whether the job waits for something else than a slot."""
        del job
        return False

    def no_job_waits_while_a_slot_that_could_run_it_is_free(self) -> None:
        """Judged by brute force; what one call had to leave is served by the next ones, so these may run first."""
        keys = self.keys = dump(self.client)
        for job in itertools.filterfalse(self.passed_over, keys.get("pending", ())):
            held = keys[f"job:{job}"]
            (tokens,) = json.loads(held["demand"])["any_of"]
            for name in keys.get("free", ()):
                found = keys[f"node:{name}"]
                lingers = job in keys.get(f"node:{name}:leases", ())
                handed_back = held.get("released_by") == f"{name}:{found['incarnation']}"
                barred = lingers or handed_back or name in held.get("exclude", "").split()
                assert barred or not {*tokens} <= {*found["capabilities"].split()}, (job, name)

    def free_is_the_nodes_that_could_take_a_job(self) -> None:
        able = {
            name
            for name in NODES
            if (held := self.keys.get(f"node:{name}"))
            and held["state"] == "ready"
            and "quarantined_until_ms" not in held
            and float(held["cpu"]) <= CPU_MAX
            and self._used(self.keys, name) < int(held["slots"])
        }
        assert self.keys.get("free", set()) == able

    def a_fence_never_falls(self, before: dict[str, Any]) -> None:
        for job in self.fences:
            then, now = before.get(f"job:{job}"), self.keys[f"job:{job}"]
            assert int(now.get("fence", "1")) >= (int(then.get("fence", "1")) if then else 1)
        for name in NODES:
            if (then := before.get(f"node:{name}")) and (now := self.keys.get(f"node:{name}")):
                assert int(now["incarnation"]) >= int(then["incarnation"])

    def the_snapshot_equals_redis(self) -> None:
        """A snapshot that has followed step by step: who is there, as what, and whether it can take a job."""
        snapshot = self.refresh()
        seen = {
            node.id: (node.state, node.slots, node.structure, " ".join(sorted(node.shape.pools)), node.free > 0)
            for node in snapshot.nodes
            if node is not None
        }
        free = self.keys.get("free", set())
        assert seen == {
            name: (held["state"], int(held["slots"]), held["structure"], held["pools"], name in free)
            for name in NODES
            if (held := self.keys.get(f"node:{name}"))
        }


@pytest.mark.one_shard("judges the keyspace of one shard by brute force")
@pytest.mark.timeout(400)  # a failure takes its time to be made small
@settings(
    max_examples=int(os.environ.get("FLEET_CLAIMS_EXAMPLES", "30")),
    deadline=None,
    database=None,
    phases=[Phase.generate] if "FLEET_CLAIMS_EXAMPLES" in os.environ else list(Phase),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(steps, min_size=15, max_size=40))
def test_whatever_happens_the_safety_properties_hold(
    client: redis.Redis, redis_url: str, sequence: list[tuple[Any, ...]]
) -> None:
    client.flushall()
    with asyncio.Runner() as runner:
        connected = connect(redis_url)
        mirror = Mirror(Functions(connected, P), 200)

        def refresh() -> Snapshot:
            runner.run(mirror.refresh())
            return mirror.snapshot

        fleet = Fleet(client, refresh)
        try:
            for name in NODES[:2]:
                fleet.step("register", name, 2)
            for step in sequence:
                fleet.step(*step)
            fleet.step("reap")
        finally:
            runner.run(connected.aclose())
