"""The one list of the API's routes: what is answered and what OpenAPI says are made from it. Pages have their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.domain import answers
from scheduler.domain.apikey import Roles
from scheduler.http import audit, events, explain, jobs, mirror, nodes, pools, probes, tenants, wire
from scheduler.http.access import Endpoint, guarded

# What a key may do goes by its role; an admin may do everything, and says so in each row.
READS: Roles = frozenset({"submit", "operator", "admin"})
PLACES: Roles = frozenset({"submit", "admin"})
RUNS: Roles = frozenset({"submit", "node", "admin"})
NODES: Roles = frozenset({"node", "admin"})
OPERATES: Roles = frozenset({"operator", "admin"})
ADMINISTERS: Roles = frozenset({"admin"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One route with what a reader of the API must know; `statuses` are those beside 422 and 503.

    An `answer` that is text is the media type of a body without a schema. `roles` may call it, and with `whole` only
    by a key for every tenant, because it tells of all; None: everybody may, and needs no key. Not `audited` is what
    comes so often that naming who does it would be felt, and is in no audit whoever does it.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    answer: type[msgspec.Struct] | str
    body: type[msgspec.Struct] | None = None
    statuses: tuple[int, ...] = (200,)
    query: tuple[str, ...] = ()
    body_required: bool = True
    roles: Roles | None = field(kw_only=True)
    whole: bool = field(default=False, kw_only=True)
    audited: bool = field(default=True, kw_only=True)

    @property
    def name(self) -> str:
        return str(getattr(self.endpoint, "__name__", "")).strip("_")


OPERATIONS = (
    Operation("POST", "/v1/jobs", jobs.post_job, "Place a job now, let it wait (wait_ms), or be told why not",
              answers.PlacementAnswer, wire.JobBody, (200, 201, 202, 400, 403, 409, 413, 415), roles=PLACES,
              audited=False),
    Operation("POST", "/v1/jobs:batch", jobs.post_batch, "Place up to 1,000 jobs, each with its own outcome",
              answers.BatchAnswer, wire.BatchBody, (200, 400, 413, 415), roles=PLACES, audited=False),
    Operation("GET", "/v1/jobs/{job}", jobs.get_job, "A job; with wait_ms once it has ended",
              answers.JobAnswer, None, (200, 404), ("wait_ms",), roles=READS),
    Operation("POST", "/v1/jobs/{job}/start", jobs.start_job, "Begin the work and receive its payload",
              answers.StartAnswer, wire.StartBody, (200, 400, 404, 409, 413, 415), roles=RUNS, audited=False),
    Operation("POST", "/v1/jobs/{job}/finish", jobs.finish_job, "End the work and free its slot",
              answers.OutcomeAnswer, wire.FinishBody, (200, 400, 404, 409, 413, 415), roles=RUNS, audited=False),
    Operation("POST", "/v1/jobs/{job}/cancel", jobs.cancel_job, "Cancel a job that has not ended",
              answers.OutcomeAnswer, None, (200, 404), roles=READS),
    Operation("POST", "/v1/explain", explain.post_explain, "Why a job would be placed or not; nothing is claimed",
              answers.ExplainAnswer, wire.JobBody, (200, 400, 413, 415), ("after", "limit"), roles=READS),
    Operation("GET", "/v1/nodes", nodes.get_nodes, "Nodes by id, a page at a time",
              answers.NodesAnswer, None, (200,), ("after", "limit"), roles=READS),
    Operation("GET", "/v1/nodes/{node}", nodes.get_node, "One node", answers.NodeAnswer, None, (200, 404),
              roles=READS),
    Operation("PUT", "/v1/nodes/{node}", nodes.put_node, "Register a node that cannot reach Redis",
              answers.RegisteredAnswer, wire.RegisterBody, (201, 400, 413, 415), roles=NODES),
    Operation("POST", "/v1/nodes/{node}/heartbeat", nodes.post_heartbeat, "Heartbeat of such a node",
              answers.HeartbeatAnswer, wire.HeartbeatBody, (200, 400, 404, 409, 413, 415), roles=NODES),
    Operation("POST", "/v1/nodes/{node}/cordon", nodes.cordon_node, "No new claims",
              answers.MarkedAnswer, None, (200, 404), roles=OPERATES),
    Operation("POST", "/v1/nodes/{node}/uncordon", nodes.uncordon_node, "New claims again",
              answers.MarkedAnswer, None, (200, 404), roles=OPERATES),
    Operation("POST", "/v1/nodes/{node}/drain", nodes.drain_node, "Cordon, and ask the node to empty",
              answers.MarkedAnswer, wire.DrainBody, (200, 400, 404, 413, 415), body_required=False, roles=OPERATES),
    Operation("DELETE", "/v1/nodes/{node}", nodes.delete_node, "Take a node out",
              answers.OutcomeAnswer, None, (200, 404, 409), roles=NODES),
    Operation("GET", "/v1/pools", pools.get_pools, "Every pool with its members", answers.PoolsAnswer, roles=READS),
    Operation("GET", "/v1/pools/{pool}", pools.get_pool, "One pool", answers.PoolAnswer, None, (200, 404),
              roles=READS),
    Operation("PUT", "/v1/pools/{pool}", pools.put_pool, "Configure a pool; its members follow",
              answers.PoolAnswer, wire.PoolBody, (200, 400, 409, 413, 415), roles=ADMINISTERS),
    Operation("DELETE", "/v1/pools/{pool}", pools.delete_pool, "Take a pool out; its nodes stay",
              answers.OutcomeAnswer, None, (200, 404), roles=ADMINISTERS),
    Operation("GET", "/v1/tenants", tenants.get_tenants, "Every tenant with its quotas, and what it has of them",
              answers.TenantsAnswer, roles=OPERATES, whole=True),
    Operation("GET", "/v1/tenants/{tenant}", tenants.get_tenant, "One tenant, also one without quotas of its own",
              answers.TenantAnswer, None, (200, 404), roles=READS),
    Operation("PUT", "/v1/tenants/{tenant}", tenants.put_tenant, "Limit a tenant, or * for all without quotas",
              answers.TenantAnswer, wire.QuotaBody, (200, 400, 413, 415), roles=ADMINISTERS),
    Operation("DELETE", "/v1/tenants/{tenant}", tenants.delete_tenant, "Take a tenant's own quotas away",
              answers.OutcomeAnswer, None, (200, 404), roles=ADMINISTERS),
    Operation("GET", "/v1/events", events.get_events, "What happens, as server-sent events",
              "text/event-stream", query=("kind", "job", "node", "after"), roles=READS),
    Operation("GET", "/v1/cluster", nodes.get_cluster, "The fleet in numbers", answers.ClusterAnswer,
              roles=OPERATES, whole=True),
    Operation("GET", "/v1/audit", audit.get_audit, "Who changed what, the newest first, a page at a time",
              answers.AuditAnswer, None, (200,), ("before", "limit"), roles=OPERATES, whole=True),
    Operation("GET", "/v1/mirror", mirror.get_mirror, "What this replica believes of the nodes, a page at a time",
              answers.MirrorAnswer, None, (200,), ("after", "limit"), roles=OPERATES, whole=True),
    Operation("GET", "/healthz", probes.healthz, "The process lives", "text/plain", roles=None),
    Operation("GET", "/readyz", probes.readyz, "The replica can place jobs", "text/plain", roles=None),
    Operation("GET", "/metrics", probes.metrics, "Prometheus metrics", "text/plain", roles=OPERATES, whole=True),
)  # fmt: skip

Methods = dict[str, frozenset[str]]


def methods_of(operations: Sequence[Operation]) -> Methods:
    """The methods of every path."""
    return {o.path: frozenset(other.method for other in operations if other.path == o.path) for o in operations}


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    if list(endpoints) == ["POST"]:
        return endpoints["POST"]

    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _endpoint(operation: Operation) -> Endpoint:
    return guarded(operation.endpoint, operation.roles, whole=operation.whole, audited=operation.audited)


def routes(
    operations: Sequence[Operation] = OPERATIONS, endpoint_of: Callable[[Operation], Endpoint] = _endpoint
) -> list[Route]:
    """One route for each path, so that 405 names every method that the path has."""
    return [
        Route(
            path, _by_method({o.method: endpoint_of(o) for o in operations if o.path == path}), methods=list(methods)
        )
        for path, methods in methods_of(operations).items()
    ]
