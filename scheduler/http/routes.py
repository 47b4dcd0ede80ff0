"""The one list of routes: what the server answers and what OpenAPI says are made from it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.http import jobs, nodes, probes, wire

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route with what a reader of the API must know; `statuses` are those beside 422 and 503."""

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    body: type[msgspec.Struct] | None = None
    statuses: tuple[int, ...] = (200,)
    query: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(getattr(self.endpoint, "__name__", "")).strip("_")


OPERATIONS = (
    Operation("POST", "/v1/jobs", jobs.post_job, "Place a job now, or be told why not", wire.JobBody,
              (200, 201, 400, 403, 409, 413, 415)),
    Operation("POST", "/v1/jobs:batch", jobs.post_batch, "Place up to 1,000 jobs, each with its own outcome",
              wire.BatchBody, (200, 400, 413, 415)),
    Operation("GET", "/v1/jobs/{job}", jobs.get_job, "A job; with wait_ms once it has ended", None, (200, 404),
              ("wait_ms",)),
    Operation("POST", "/v1/jobs/{job}/start", jobs.start_job, "Begin the work and receive its payload",
              wire.StartBody, (200, 400, 404, 409, 413, 415)),
    Operation("POST", "/v1/jobs/{job}/finish", jobs.finish_job, "End the work and free its slot", wire.FinishBody,
              (200, 400, 404, 409, 413, 415)),
    Operation("POST", "/v1/jobs/{job}/cancel", jobs.cancel_job, "Cancel a job that has not ended", None, (200, 404)),
    Operation("GET", "/v1/nodes", nodes.get_nodes, "Nodes by id, a page at a time", None, (200,), ("after", "limit")),
    Operation("GET", "/v1/nodes/{node}", nodes.get_node, "One node", None, (200, 404)),
    Operation("PUT", "/v1/nodes/{node}", nodes.put_node, "Register a node that cannot reach Redis",
              wire.RegisterBody, (201, 400, 413, 415)),
    Operation("POST", "/v1/nodes/{node}/heartbeat", nodes.post_heartbeat, "Heartbeat of such a node",
              wire.HeartbeatBody, (200, 400, 404, 409, 413, 415)),
    Operation("POST", "/v1/nodes/{node}/cordon", nodes.cordon_node, "No new claims", None, (200, 404)),
    Operation("POST", "/v1/nodes/{node}/uncordon", nodes.uncordon_node, "New claims again", None, (200, 404)),
    Operation("POST", "/v1/nodes/{node}/drain", nodes.drain_node, "Cordon, and ask the node to empty",
              wire.DrainBody, (200, 400, 404, 413, 415)),
    Operation("DELETE", "/v1/nodes/{node}", nodes.delete_node, "Take a node out", None, (200, 404, 409)),
    Operation("GET", "/v1/cluster", nodes.get_cluster, "The fleet in numbers"),
    Operation("GET", "/healthz", probes.healthz, "The process lives"),
    Operation("GET", "/readyz", probes.readyz, "The replica can place jobs"),
    Operation("GET", "/metrics", probes.metrics, "Prometheus metrics"),
    Operation("GET", "/", probes.overview, "The fleet at a glance, for people"),
)  # fmt: skip


def routes() -> list[Route]:
    return [Route(o.path, o.endpoint, methods=[o.method]) for o in OPERATIONS]
