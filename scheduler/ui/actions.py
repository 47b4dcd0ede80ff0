"""What can be done from the dashboard: each action asks on a page of its own first, and only these pages can act."""

from typing import get_args
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.body import read_body
from scheduler.http.problems import Problem
from scheduler.store.functions import Mark
from scheduler.ui.jobs import job_id, known_job
from scheduler.ui.nodes import known_node, node_id
from scheduler.ui.pages import HEADERS, link, page, render, viewer_of

FORM = "application/x-www-form-urlencoded"
DRAIN_S = 30


def check_origin(request: Request) -> None:
    """403 unless a page of this very address sent the form: another site must not act through a person's browser.

    Every browser names the sender; what names none is a program, and has the routes under /v1.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site == "same-origin"
    else:
        same = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if not same:
        raise Problem(
            403, "Forbidden", "Only the dashboard's own pages may act here; programs use the routes under /v1."
        )


async def _form(request: Request) -> dict[str, str]:
    check_origin(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Problem(415, "Unsupported media type", f"Content-Type must be {FORM}")
    body = await read_body(request)
    return {name: values[-1] for name, values in parse_qs(body.decode("latin-1")).items()}


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
    return render(request, "mark.html", viewer=viewer, node=view, mark=mark, seconds=DRAIN_S)


@page
async def mark_node(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    form = await _form(request)
    viewer, mark, node = viewer_of(request), _mark(request), node_id(request)
    drain_ms = _drain_ms(form) if mark == "drain" else None
    await known_node(engine, node, viewer)
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
    await _form(request)
    viewer, job = viewer_of(request), job_id(request)
    _, tenant = await known_job(engine, job, viewer)
    word = await (await engine.known()).jobs.cancel(job, tenant)
    if word == "unknown":
        raise Problem(404, "Unknown job", f"The job {job} is forgotten.")
    return RedirectResponse(link(f"/ui/jobs/{job}", viewer, done=word), 303, HEADERS)
