"""No sequence of calls by one tenant changes or reveals anything of another.

Two worlds of the same fleet. In one the tenant b acts between the calls of the tenant a, in the other it does not.
Every answer to a is the same in both but for clocks (`tests.property.apart.CLOCKS`), though a knows each id and each
number of b's; and no call of a's changes a byte of what is b's. Their pools have no node in common: who shares nodes
sees how much of them is used. What all tenants share by design is in docs/authentication.md.
"""

import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from scheduler.domain.shards import home_tag
from scheduler.engine import mirror
from scheduler.store.layout import chosen_tags
from tests.conftest import reaching
from tests.e2e.conftest import wait_until
from tests.property.apart import LONG_MS, PRESENT, Call, World, compared, everything_of, names_beside, worlds

TAGS = chosen_tags(int(os.environ.get("FLEET_TEST_SHARDS", "0")) or 1)


def nodes_of(tenant: str) -> list[str]:
    """Two at least, and one in each shard, so that what happened in each can be told to be over."""
    names = [f"{tenant}{number}" for number in range(1, 100)]
    each = [next(name for name in names if home_tag(TAGS, name) == tag) for tag in TAGS]
    return list(dict.fromkeys([*names[:2], *each]))


OWN, OTHERS = nodes_of("a"), nodes_of("b")
JOBS = {node: names_beside(TAGS, node[0], node, 4) for node in (*OWN, *OTHERS)}
# the last job of each node ends the world
ENDS = {node: JOBS[node].pop() for node in OWN}
OWN_JOBS = [f"a:{job}" for node in OWN for job in JOBS[node]]
OTHER_JOBS = [f"b:{job}" for node in OTHERS for job in JOBS[node]]
# a job of b's whose id a replica made
CHANCE = "CHANCE"
LOST = "b100"
AS_OTHER = (("x-fleet-tenant", "b"),)

picked = st.sampled_from
any_node = picked([*OWN, *OWN, *OTHERS, "nobody"])
any_job = picked([*OWN_JOBS * 2, *OTHER_JOBS, CHANCE, "a:nothing"])
own_keys = picked(["submit", "operator", f"node {OWN[0]}"])


def offering(node: str) -> dict[str, Any]:
    return {"endpoint": f"http://{node}", "slots": 2, "capabilities": [f"on:{node}", "any"],
            "labels": {"of": node[0]}, "ttl_ms": LONG_MS}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn, nodes: list[str]) -> dict[str, Any]:
    """On one node, for of several it would be chance which."""
    node = draw(picked(nodes))
    body = {"id": draw(picked(JOBS[node])), "requires": [f"on:{node}"], "ack_ms": LONG_MS}
    more: dict[str, st.SearchStrategy[Any]] = {
        "wait_ms": st.just(LONG_MS), "payload": picked(["x", "y" * 300]), "deliver": st.just("direct"),
        "exclude": picked([["b1"], ["a1", "nobody"]]), "priority": picked([0, 9]),
        "pool": picked(["a", "b", "nobody"]),
        "affinity": picked(["sticky", "spread"]), "retry_failed": st.just(True),
    }  # fmt: skip
    plain: st.SearchStrategy[dict[str, Any]] = st.just({})
    body |= draw(
        plain | st.fixed_dictionaries({"wait_ms": st.just(LONG_MS)}) | st.fixed_dictionaries({}, optional=more)
    )
    return body | {"session": "s1"} if "affinity" in body else body


def fenced(key: str, job: str, word: str, body: dict[str, Any]) -> Call:
    return Call(key, "POST", f"/v1/jobs/{job}/{word}", {"fence": PRESENT} | body, about=job)


SEEN = (
    *("/v1/nodes", "/v1/nodes?limit=1", "/v1/nodes?after=a1", "/v1/pools", "/v1/pools/a", "/v1/pools/b"),
    *("/v1/pools/nobody", "/v1/tenants/a", "/v1/tenants/b", "/v1/tenants", "/v1/cluster", "/v1/mirror", "/v1/audit"),
    *("/metrics", "/", "/ui/pools", "/ui/nodes", "/readyz", "/v1/jobs:batch"),
)
reads = st.one_of(
    st.builds(lambda key, job: Call(key, "GET", f"/v1/jobs/{job}"), own_keys, any_job),
    st.builds(lambda key, node: Call(key, "GET", f"/v1/nodes/{node}"), own_keys, any_node),
    st.builds(lambda key, path: Call(key, "GET", path), own_keys, picked(SEEN)),
    st.builds(
        lambda key, path: Call(key, "GET", path, headers=AS_OTHER),
        own_keys,
        picked(["/v1/nodes", "/v1/pools", "/v1/tenants/b"]),
    ),
)
acts = st.one_of(
    st.builds(lambda body: Call("submit", "POST", "/v1/jobs", body), bodies(OWN)),
    st.builds(lambda body: Call("submit", "POST", "/v1/jobs", body), bodies(OWN)),
    st.builds(lambda body: Call("submit", "POST", "/v1/jobs", body), bodies([*OWN, *OTHERS])),
    st.builds(lambda body: Call("operator", "POST", "/v1/explain", {"requires": body["requires"]} | {
        name: body[name] for name in ("pool", "exclude") if name in body}), bodies([*OWN, *OTHERS])),
    st.just(Call("submit", "POST", "/v1/explain", {"requires": ["any"]})),
    st.builds(lambda body: Call("submit", "POST", "/v1/jobs", body, headers=AS_OTHER), bodies(OTHERS)),
    st.builds(lambda one, two: Call("submit", "POST", "/v1/jobs:batch", {"jobs": [one, two]}),
              bodies(OWN[:1]), bodies(OTHERS)),
    st.builds(lambda key, job: fenced(key, job, "start", {}), own_keys, any_job),
    st.builds(lambda key, job, outcome: fenced(key, job, "finish", {"outcome": outcome}), own_keys, any_job,
              picked(["succeeded", "failed", "released"])),
    st.builds(lambda key, job: Call(key, "POST", f"/v1/jobs/{job}/cancel"), own_keys, any_job),
)  # fmt: skip
on_nodes = st.one_of(
    st.builds(lambda node, mark: Call("operator", "POST", f"/v1/nodes/{node}/{mark}"), any_node,
              picked(["cordon", "uncordon", "uncordon", "drain"])),
    st.builds(lambda node, of: Call(f"node {of}", "PUT", f"/v1/nodes/{node}", offering(of)), any_node, picked(OWN)),
    st.builds(lambda node, of, job: Call(f"node {of}", "POST", f"/v1/nodes/{node}/heartbeat",
                                         {"incarnation": PRESENT} | ({"running": [{"job": job, "fence": 7}]}
                                                                           if job != CHANCE else {}), about=node),
              any_node, picked(OWN), any_job),
    st.builds(lambda node, of: Call(f"node {of}", "DELETE", f"/v1/nodes/{node}"), any_node, picked(OWN)),
    st.builds(lambda key, name: Call(key, "PUT", f"/v1/{name}", {"selector": {"all": True}}), own_keys,
              picked(["pools/a", "pools/b", "tenants/a", "tenants/b"])),
    st.builds(lambda key, name: Call(key, "DELETE", f"/v1/{name}"), own_keys, picked(["pools/b", "tenants/b"])),
)  # fmt: skip
others = st.one_of(
    st.builds(lambda body: Call("b submit", "POST", "/v1/jobs", body), bodies(OTHERS)),
    st.builds(lambda body: Call("b submit", "POST", "/v1/jobs", body), bodies(OTHERS)),
    st.just(Call("b submit", "POST", "/v1/jobs", {"requires": [f"on:{OTHERS[0]}"], "ack_ms": LONG_MS})),
    st.builds(lambda job, outcome: fenced("b submit", job, "finish", {"outcome": outcome}),
              picked([*OTHER_JOBS, CHANCE]), picked(["succeeded", "failed", "released"])),
    st.builds(lambda job: Call("b submit", "POST", f"/v1/jobs/{job}/cancel"), picked([*OTHER_JOBS, CHANCE])),
    st.builds(lambda quota: Call("admin", "PUT", "/v1/tenants/b", quota),
              picked([{"concurrent_jobs": 1}, {"waiting_jobs": 0, "requests_per_s": 9}, {}])),
    st.builds(lambda node: Call("admin", "PUT", f"/v1/nodes/{node}", offering(node)), picked(OTHERS)),
    st.builds(lambda node, mark: Call("admin", "POST", f"/v1/nodes/{node}/{mark}"), picked(OTHERS),
              picked(["cordon", "uncordon", "drain"])),
    st.builds(lambda node: Call("admin", "DELETE", f"/v1/nodes/{node}"), picked(OTHERS)),
    st.just(Call("admin", "PUT", f"/v1/nodes/{LOST}", offering(LOST) | {"ttl_ms": 100})),
)  # fmt: skip
sequences = st.lists(st.one_of(others, others, reads, acts, acts, acts, on_nodes), min_size=8, max_size=20)


class Fleet:
    """The world in which b acts, and the one in which it does not."""

    def __init__(self, busy: World, quiet: World) -> None:
        self.busy, self.quiet = busy, quiet
        self.chance = "0.00000000000000000000000000000000"
        self.jobs: set[str] = set()
        self.before: dict[str, Any] = {}
        for world in (busy, quiet):
            world.make_key("admin", "*", "admin")
            world.make_key("submit", "a", "submit")
            world.make_key("operator", "a", "operator")
            world.make_key("b submit", "b", "submit")
            for node in OWN:
                world.make_key(f"node {node}", "a", "node", node)
            for tenant in "ab":
                pool = {"selector": {"labels": {"of": tenant}}, "tenants": [tenant]}
                assert world.ask(Call("admin", "PUT", f"/v1/pools/{tenant}", pool), {}).status_code == 200
        for node in OTHERS:
            self.act(Call("admin", "PUT", f"/v1/nodes/{node}", offering(node)))
        for node in OWN:
            self.same(Call(f"node {node}", "PUT", f"/v1/nodes/{node}", offering(node)))

    def named(self, call: Call) -> Call:
        return Call(call.key, call.method, call.path.replace(CHANCE, self.chance), call.body,
                    call.about.replace(CHANCE, self.chance), call.headers)  # fmt: skip

    def act(self, call: Call) -> None:
        """What b does, or is done to it, in one of the worlds."""
        call = self.named(call)
        told = self.busy.ask(call, {})
        assert told.status_code < 500 or told.status_code == 503, told.text
        if told.status_code in {201, 202} and call.path == "/v1/jobs":
            job = told.json()["job"]["id"]
            self.jobs.add(job)
            self.chance = job if call.body and "id" not in call.body else self.chance
        if call.path.endswith(LOST):
            self.lose()
        self.busy.settle()
        self.before = self.theirs()

    def theirs(self) -> dict[str, Any]:
        return everything_of(self.busy.redis, self.busy.name, "b", self.jobs)

    def lose(self) -> None:
        """The node had a job, and is lost with it."""
        job = Call("b submit", "POST", "/v1/jobs", {"requires": [f"on:{LOST}"], "ack_ms": LONG_MS})
        told = self.busy.ask(job, {})
        self.jobs |= {told.json()["job"]["id"]} if told.status_code == 201 else set()
        key = f"{self.busy.shard(home_tag(TAGS, LOST))}:node:{LOST}"
        wait_until(lambda: self.busy.redis.hget(key, "state") == b"lost", "the node is lost")

    def alike(self, call: Call) -> None:
        """What a is told is the same."""
        one, two = (world.ask(call, self.busy.numbers) for world in (self.busy, self.quiet))
        assert compared(self.busy, one) == compared(self.quiet, two), call
        assert one.status_code < 500 or one.status_code == 503, one.text
        event(f"{call.method} {one.status_code}")

    def same(self, call: Call) -> None:
        """What a is told is the same, and what is b's is as before."""
        # reasons are counted in the snapshot, which is brought up to date by this
        self.alike(Call("submit", "GET", "/v1/nodes"))
        self.alike(self.named(call))
        for world in (self.busy, self.quiet):
            world.settle()
        theirs = self.theirs()
        changed = {key for key in {*theirs, *self.before} if theirs.get(key) != self.before.get(key)}
        assert not changed, call

    def end(self) -> None:
        """All that a can see, and hear of what happened, is the same."""
        for path in SEEN:
            self.alike(Call("operator", "GET", path))
        for job in OWN_JOBS:
            self.alike(Call("submit", "GET", f"/v1/jobs/{job}"))
        for node in OWN:
            self.same(Call(f"node {node}", "PUT", f"/v1/nodes/{node}", offering(node)))
            self.same(Call("operator", "POST", f"/v1/nodes/{node}/cordon"))
            waits = {"id": ENDS[node], "requires": [f"on:{node}"], "wait_ms": LONG_MS}
            self.same(Call("submit", "POST", "/v1/jobs", waits))
            self.same(Call("submit", "POST", f"/v1/jobs/a:{ENDS[node]}/cancel"))
        ends = frozenset(f"a:{job}" for job in ENDS.values())
        heard = [world.events("submit", ends) for world in (self.busy, self.quiet)]
        assert heard[0] == heard[1]


@pytest.mark.slow
@pytest.mark.timeout(600)  # a failure takes its time to be made small
@settings(
    max_examples=int(os.environ.get("FLEET_APART_EXAMPLES", "60")),
    deadline=None,
    database=None,
    phases=[Phase.generate] if "FLEET_APART_EXAMPLES" in os.environ else [Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=sequences)
def test_no_calls_of_a_tenant_change_or_reveal_anything_of_another(
    client: redis.Redis, topology: Any, monkeypatch: pytest.MonkeyPatch, sequence: list[Call]
) -> None:
    # what nobody offers is refused for good at once, also in a fleet that is new
    monkeypatch.setattr(mirror, "EPOCH_GRACE_MS", 0)
    with reaching(client) as everywhere:
        everywhere.flushall()
        with worlds(everywhere, topology.url, ("world-busy", "world-quiet"), TAGS) as (busy, quiet):
            fleet = Fleet(busy, quiet)
            for call in sequence:
                if call.key in {"admin", "b submit"}:
                    fleet.act(call)
                else:
                    fleet.same(call)
            fleet.end()
