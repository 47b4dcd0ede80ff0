"""Jobs: which wait, which have a slot, what was last heard of others, and one job's story."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scheduler.domain.ids import JobId, Tenant, checked_job_id
from scheduler.domain.views import JobView
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.problems import Problem
from scheduler.store.events import Event, order
from scheduler.ui import commands
from scheduler.ui.pages import HEADERS, Viewer, link, page, render, viewer_of

ROWS_MAX, LEASES_MAX, RESULT_SHOWN = 30, 20, 4_000
KINDS = (
    "job_succeeded",
    "job_failed",
    "job_waiting",
    "job_retried",
    "job_placed",
    "job_expired",
    "job_cancelled",
    "job_moved",
)


def _last_of_each(events: list[Event]) -> list[Event]:
    """What was last heard of each job; the events come the newest first."""
    seen: dict[str, Event] = {}
    for event in events:
        seen.setdefault(event.fields.get("job", ""), event)
    return list(seen.values())


@page
async def jobs(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    viewer, asked = viewer_of(request), request.query_params
    if wanted := asked.get("id", "").strip():
        return RedirectResponse(link(f"/ui/jobs/{checked_job_id(wanted)}", viewer), 303, HEADERS)
    kind = asked.get("kind", "")
    if kind and kind not in KINDS:
        raise BadInput("kind", f"must be one of {', '.join(KINDS)}")

    def told(event: Event) -> bool:
        return event.kind == kind if kind else event.kind in KINDS

    stories = (await engine.known()).stories
    events, leases, queues = await asyncio.gather(
        stories.latest(ROWS_MAX * 4, told, viewer.tenant), stories.leases(), stories.queues()
    )
    own = [lease for lease in leases if viewer.tenant in {None, lease.tenant}]
    return render(
        request,
        "jobs.html",
        viewer=viewer,
        kind=kind,
        kinds=KINDS,
        queues=[queue for queue in queues if viewer.tenant in {None, queue.tenant}],
        leases=own[:LEASES_MAX],
        leases_more=len(own) > LEASES_MAX,
        events=_last_of_each(events)[:ROWS_MAX],
        commands=commands.of_jobs([shard.key for shard in engine.shards]),
    )


def job_id(request: Request) -> JobId:
    return checked_job_id(request.path_params["job"])


async def known_job(engine: Engine, job: JobId, viewer: Viewer) -> tuple[JobView, Tenant]:
    """The job and whose it is; another tenant's is as unknown as one that never was."""
    located = (await engine.known()).jobs
    tenant = viewer.tenant or await located.owner(job)
    view = None if tenant is None else await located.job(job, tenant)
    if view is None or tenant is None:
        raise Problem(404, "Unknown job", f"No job has the id {job}; ended ones are forgotten after an hour.")
    return view, tenant


def alternatives(demand: str) -> list[list[str]]:
    """The sets of capabilities of which one must be met."""
    told: dict[str, list[list[str]]] = msgspec.json.decode(demand)
    return [list(tokens) for tokens in told["any_of"]]


def _story(view: JobView, heard: list[Event]) -> list[Event]:
    """What was heard of the job, with the instants that its record has, in order."""
    told = [Event(f"{view.created_at_ms}-0", "created", {"tenant": view.tenant})]
    if view.started_at_ms is not None:
        node = view.node.id if view.node else ""
        told.append(Event(f"{view.started_at_ms}-0", "started", {"node": node, "attempt": str(view.attempt)}))
    return sorted([*told, *heard], key=lambda event: order(event.position))


@page
async def job(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    viewer, id_ = viewer_of(request), job_id(request)
    view, tenant = await known_job(engine, id_, viewer)
    parts = await engine.known()
    shard = await parts.jobs.shard(id_, tenant)
    return render(
        request,
        "job.html",
        viewer=viewer,
        job=view,
        ended=view.state.ended,
        any_of=alternatives(view.demand),
        result=(view.result or "")[:RESULT_SHOWN],
        result_more=max(len(view.result or "") - RESULT_SHOWN, 0),
        story=_story(view, await parts.stories.of_job(id_, view)),
        commands=commands.of_job((shard or engine.first).key, id_),
        done=request.query_params.get("done", ""),
    )
