"""The routes under /v1/jobs: place, follow, start, finish, cancel."""

import asyncio
from typing import Literal

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import (
    BatchAnswer,
    BatchOutcome,
    JobAnswer,
    OutcomeAnswer,
    PlacedJob,
    PlacementAnswer,
    PlacementFacts,
    StartAnswer,
)
from scheduler.domain.ids import Fence, JobId, Tenant, checked_job_id
from scheduler.domain.job import JobRequest, JobState
from scheduler.domain.reason import RefusalClass
from scheduler.domain.tenants import Quota
from scheduler.domain.views import JobView, NodeAddress
from scheduler.engine.dispatch import Placement, Refusal, Verdict
from scheduler.engine.engine import Engine
from scheduler.engine.locating import Located
from scheduler.errors import Overrun
from scheduler.http.access import caller_of, still_admitted
from scheduler.http.body import answer, decoded, is_packed, number_query, read_as, read_body, tenant_of
from scheduler.http.limiting import over_quota, payload_checked, spend
from scheduler.http.placing import place
from scheduler.http.problems import Problem, problem_of
from scheduler.http.wire import BatchBody, FinishBody, JobBody, StartBody, job_request
from scheduler.logs import bind
from scheduler.store.codec import Crowded, Exists, Waiting
from scheduler.store.functions import Running
from scheduler.store.moves import Moves

WAIT_MAX_MS = 60_000


def _told(verdict: Verdict, quota: Quota, traceparent: str) -> tuple[int, PlacementAnswer]:
    """Status and body of a placement; a refusal of any kind is raised as its Problem."""
    trace = traceparent or UNSET
    if isinstance(verdict, Refusal):
        if verdict.refusal is RefusalClass.QUOTA:
            raise over_quota(
                "concurrent_jobs", quota, reasons=verdict.reasons, snapshot_age_ms=verdict.snapshot_age_ms
            )
        status = 422 if verdict.refusal is RefusalClass.IMPOSSIBLE else 503
        raise Problem(
            status,
            "Refused",
            _EARLY if verdict.early else _SENTENCES[verdict.refusal],
            **{"class": verdict.refusal},
            reasons=verdict.reasons,
            snapshot_age_ms=verdict.snapshot_age_ms,
            retry_after_ms=verdict.retry_after_ms or None,
        )
    if verdict == "differs":
        raise Problem(409, "Conflict", "id was used for a job with another body", field="id")
    if verdict == "denied":
        raise Problem(403, "Forbidden", "no pool of this name serves this tenant", field="pool")
    if isinstance(verdict, Waiting):
        return 202, PlacementAnswer(PlacedJob(verdict.job, JobState.PENDING, None, "", 0, 0, 0, trace))
    if isinstance(verdict, Crowded):
        if verdict.limit == "waiting_jobs":
            raise over_quota("waiting_jobs", quota)
        raise Problem(503, "Crowded", _CROWDED[verdict.limit], limit=verdict.limit, retry_after_ms=1_000)
    found = verdict.placed.placement if isinstance(verdict, Placement) else verdict.placement
    job = PlacedJob(
        id=found.job,
        state=found.state,
        node=NodeAddress(found.node, found.endpoint) if found.node else None,
        pool=found.pool,
        fence=found.fence,
        attempt=found.attempt,
        lease_expires_at_ms=found.lease_expires_at_ms,
        # what was placed before may be of another request's trace: job_start knows
        traceparent=UNSET if isinstance(verdict, Exists) else trace,
    )
    if isinstance(verdict, Exists):
        return 200, PlacementAnswer(job)
    facts = PlacementFacts(verdict.candidates, verdict.conflict, verdict.fallback_used, verdict.snapshot_age_ms)
    return 201, PlacementAnswer(job, facts)


_CROWDED = {
    "demands": "128 different demands wait already, or of this tenant three for each that is free: one more must not",
    "jobs": "10,000 jobs wait already",
    "tenant": "1,000 jobs of this tenant wait already",
}
_EARLY = "no node offers what the job requires yet: the fleet is new or was emptied, and nodes may still come"
_SENTENCES = {
    RefusalClass.IMPOSSIBLE: "no node of the tenant's pools offers what the job requires",
    RefusalClass.UNAVAILABLE: "nodes offer what the job requires, but none of them is alive and ready",
    RefusalClass.OVERLOADED: "every node that could take the job is full or over its limits",
}


async def _place(request: Request, wanted: JobRequest) -> tuple[int, PlacementAnswer]:
    engine: Engine = request.app.state.engine
    quota = engine.quota(wanted.demand.tenant)
    verdict, traceparent = await place(request, payload_checked(wanted, quota))
    return _told(verdict, quota, traceparent)


async def post_job(request: Request) -> Response:
    tenant, packed = tenant_of(request), is_packed(request)
    body = decoded(await read_body(request), JobBody, packed=packed)
    wanted = job_request(body, tenant, packed=packed, traceparent=request.scope.get("traceparent", ""))
    status, told = await _place(request, wanted)
    headers = {"location": f"/v1/jobs/{told.job.id}"} if status in {201, 202} else None
    return answer(request, told, status, headers)


async def post_batch(request: Request) -> Response:
    tenant, packed = tenant_of(request), is_packed(request)
    batch = decoded(await read_body(request), BatchBody, packed=packed)
    traceparent = request.scope.get("traceparent", "")
    # the request itself is counted by now
    await spend(request.app.state.engine, tenant, len(batch.jobs) - 1)

    async def one(raw: bytes) -> BatchOutcome:
        try:
            body = decoded(raw, JobBody, packed=packed)
            wanted = job_request(body, tenant, packed=packed, traceparent=traceparent)
            status, told = await _place(request, wanted)
        except Exception as error:  # noqa: BLE001 - each job has an outcome of its own
            document = problem_of(error).document
            return BatchOutcome(document["status"], problem=document)
        return BatchOutcome(status, told.job, told.placement)

    return answer(request, BatchAnswer(await asyncio.gather(*(one(bytes(raw)) for raw in batch.jobs))))


def _unknown() -> Problem:
    return Problem(404, "Unknown job", "no job of this tenant has this id")


def _job_id(request: Request) -> JobId:
    job = checked_job_id(request.path_params["job"])
    bind(job_id=job)
    return job


async def _functions(request: Request, job: JobId, fence: Fence) -> Moves:
    """Those of the shard that has the job: the tenant's own, and to a node's key an attempt of that node."""
    engine: Engine = request.app.state.engine
    located, node = (await engine.known()).jobs, caller_of(request).node
    if node is not None:
        shard = await located.held(job, node, fence)
    else:
        shard = await located.shard(job, tenant_of(request))
    if shard is None:
        raise _unknown()
    return shard.functions


async def _own_job(request: Request, job: JobId, tenant: Tenant, wait_ms: int = 0) -> JobView:
    jobs = (await request.app.state.engine.known()).jobs
    view = await (_wait(request, jobs, job, tenant, wait_ms) if wait_ms > 0 else jobs.job(job, tenant))
    if wait_ms > 0:
        still_admitted(request)
    if view is None:
        raise _unknown()
    return view


async def _wait(request: Request, jobs: Located, job: JobId, tenant: Tenant, wait_ms: int) -> JobView | None:
    """Wait for the job's end, but not for a client that has gone."""
    waiting = asyncio.create_task(jobs.job(job, tenant, wait_ms))
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Overrun("the client has gone")
        return waiting.result()
    finally:
        waiting.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def get_job(request: Request) -> Response:
    wait_ms = number_query(request, "wait_ms", 0, 0, WAIT_MAX_MS)
    return answer(request, JobAnswer(await _own_job(request, _job_id(request), tenant_of(request), wait_ms)))


def _outcome(request: Request, word: Literal["finished", "cancelled", "duplicate", "fenced", "unknown"]) -> Response:
    if word == "unknown":
        raise _unknown()
    if word == "fenced":
        raise Problem(409, "Fenced", "the fence is not the job's present one: this attempt is over", field="fence")
    return answer(request, OutcomeAnswer(word))


async def start_job(request: Request) -> Response:
    job, body = _job_id(request), await read_as(request, StartBody)
    fence = Fence(body.fence)
    started = await (await _functions(request, job, fence)).job_start(job, fence)
    if isinstance(started, Running):
        trace = started.traceparent or UNSET
        return answer(request, StartAnswer("running", started.remaining_ms, started.payload, started.attempt, trace))
    return _outcome(request, started)


async def finish_job(request: Request) -> Response:
    job, body = _job_id(request), await read_as(request, FinishBody)
    fence = Fence(body.fence)
    functions = await _functions(request, job, fence)
    return _outcome(request, await functions.job_finish(job, fence, body.outcome, body.result))


async def cancel_job(request: Request) -> Response:
    jobs = (await request.app.state.engine.known()).jobs
    return _outcome(request, await jobs.cancel(_job_id(request), tenant_of(request)))
