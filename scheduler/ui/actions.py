"""What can be done from the dashboard: each action asks on a page of its own first, and only these pages can act."""

from typing import get_args

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.nodes import check_operated
from scheduler.http.problems import Problem
from scheduler.store.functions import Mark
from scheduler.ui.forms import form_of
from scheduler.ui.jobs import job_id, known_job
from scheduler.ui.nodes import known_node, node_id
from scheduler.ui.pages import HEADERS, link, page, render, viewer_of

DRAIN_S = 30


def _mark(request: Request) -> Mark:
    word: Mark = request.path_params["mark"]
    if word not in get_args(Mark):
        raise Problem(404, "Unknown page", "A node can be cordoned, uncordoned and drained.")
    return word


def _drain_ms(form: dict[str, str]) -> int:
    text = form.get("seconds", str(DRAIN_S)).strip()
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 86_400:
        raise BadInput("seconds", "must be a whole number from 0 to 86400")
    return int(text) * 1_000


@page
async def ask_mark(request: Request) -> Response:
    viewer, mark = viewer_of(request), _mark(request)
    view = await known_node(request.app.state.engine, node_id(request), viewer)
    await check_operated(request, node_id(request))
    return render(request, "mark.html", viewer=viewer, node=view, mark=mark, seconds=DRAIN_S)


@page
async def mark_node(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    form = await form_of(request)
    viewer, mark, node = viewer_of(request), _mark(request), node_id(request)
    drain_ms = _drain_ms(form) if mark == "drain" else None
    await known_node(engine, node, viewer)
    await check_operated(request, node)
    if await (await engine.known()).shards.of_node(node).functions.node_mark(node, mark, drain_ms) is None:
        raise Problem(404, "Unknown node", f"The node {node} has left.")
    return RedirectResponse(link(f"/ui/nodes/{node}", viewer, done=mark), 303, HEADERS)


@page
async def ask_cancel(request: Request) -> Response:
    viewer = viewer_of(request)
    view, _ = await known_job(request.app.state.engine, job_id(request), viewer)
    return render(request, "cancel.html", viewer=viewer, job=view, ended=view.state.ended)


@page
async def cancel_job(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    await form_of(request)
    viewer, job = viewer_of(request), job_id(request)
    _, tenant = await known_job(engine, job, viewer)
    word = await (await engine.known()).jobs.cancel(job, tenant)
    if word == "unknown":
        raise Problem(404, "Unknown job", f"The job {job} is forgotten.")
    return RedirectResponse(link(f"/ui/jobs/{job}", viewer, done=word), 303, HEADERS)
