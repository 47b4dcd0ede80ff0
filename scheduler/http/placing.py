"""One placement as operators see it: counted, traced, and named in every record under it."""

import time

import msgspec
from starlette.requests import Request

from scheduler import logs, tracing
from scheduler.domain.job import JobRequest
from scheduler.engine.dispatch import Placement, Refusal, Verdict
from scheduler.engine.engine import Engine
from scheduler.store.codec import Crowded, Exists, Waiting


async def place(request: Request, wanted: JobRequest) -> tuple[Verdict, str]:
    """The engine's verdict, and the traceparent that the job was given: of the span, else as the request had it."""
    engine: Engine = request.app.state.engine
    started = time.perf_counter()
    with tracing.span_under(wanted.traceparent, "place job", "SERVER", unless_within=True) as span:
        if span is not None:
            wanted = msgspec.structs.replace(wanted, traceparent=span.traceparent)
        if wanted.traceparent:
            logs.bind(job_id=wanted.id, trace_id=wanted.traceparent[3:35])
        else:
            logs.bind(job_id=wanted.id)
        verdict = await engine.place(wanted)
        if isinstance(verdict, Placement):
            # between shards an id that is ours was changed
            logs.bind(job_id=verdict.placed.placement.job, node=verdict.placed.placement.node)
        if span is not None:
            span.note({"fleet.tenant": wanted.demand.tenant, **_attributes(wanted, verdict)})
    request.app.state.metrics.saw(verdict, time.perf_counter() - started)
    return verdict, wanted.traceparent


def _attributes(wanted: JobRequest, verdict: Verdict) -> dict[str, str | int | bool]:
    """What the span says of the verdict; the job's id is the one that it has in the end."""
    match verdict:
        case Placement():
            found = verdict.placed.placement
            return {
                "fleet.outcome": "placed",
                "fleet.job.id": found.job,
                "fleet.node.id": found.node,
                "fleet.pool": found.pool,
                "fleet.fence": found.fence,
                "fleet.candidates": verdict.candidates,
                "fleet.conflict": verdict.conflict,
                "fleet.fallback_used": verdict.fallback_used,
            }
        case Exists():
            found = verdict.placement
            return {"fleet.outcome": "exists", "fleet.job.id": found.job, "fleet.node.id": found.node}
        case Waiting():
            return {"fleet.outcome": "waiting", "fleet.job.id": verdict.job}
        case Refusal():
            return {"fleet.outcome": "refused", "fleet.job.id": wanted.id, "fleet.refusal.class": verdict.refusal}
        case Crowded():
            return {"fleet.outcome": "crowded", "fleet.job.id": wanted.id, "fleet.limit": verdict.limit}
        case word:
            return {"fleet.outcome": word, "fleet.job.id": wanted.id}
