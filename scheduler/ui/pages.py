"""How a page is made: templates, headers that keep foreign code out, errors as pages, and whose fleet it shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from scheduler import __version__
from scheduler.domain.ids import PoolName, Tenant, checked_id
from scheduler.domain.pool import Pool
from scheduler.domain.reason import Reason
from scheduler.engine.engine import Engine
from scheduler.http.access import Endpoint, caller_of, known_caller
from scheduler.http.body import tenant_of
from scheduler.http.problems import problem_of
from scheduler.ui.forms import HEADERS, csrf_of, sign_in_first

__all__ = ["HEADERS", "Viewer", "link", "page", "render", "static", "viewer_of"]

FOLDER = Path(__file__).parent
_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_static = StaticFiles(directory=FOLDER / "static")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose part of the fleet a page shows: one tenant's, or without a tenant all of it.

    `bound`: key or header name the tenant, and no link of the page leads beyond it.
    """

    tenant: Tenant | None = None
    bound: bool = False

    def serves(self, pool: Pool) -> bool:
        return self.tenant is None or pool.serves(self.tenant)

    def served(self, pools: Mapping[PoolName, Pool]) -> frozenset[PoolName] | None:
        """The tenant's pools; None: no pool is hidden, nor a node that is in none."""
        if self.tenant is None:
            return None
        return frozenset(name for name, pool in pools.items() if pool.serves(self.tenant))


def viewer_of(request: Request) -> Viewer:
    """The tenant of the key or of X-Fleet-Tenant, as at every route; else what `?tenant=` asks for; else all."""
    if caller_of(request).tenant is not None or "x-fleet-tenant" in request.headers:
        return Viewer(tenant_of(request), bound=True)
    asked = request.query_params.get("tenant", "").strip()
    return Viewer(Tenant(checked_id("tenant", asked)) if asked else None)


def link(path: str, viewer: Viewer, **query: object) -> str:
    """An address of the dashboard that goes on showing the same tenant."""
    told = {name: value for name, value in query.items() if value not in {None, ""}}
    if viewer.tenant is not None and not viewer.bound:
        told["tenant"] = viewer.tenant
    return f"{path}?{urlencode(told)}" if told else path


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """The page, which knows in every part whose fleet it shows and what keeps this replica from placing."""
    engine: Engine = request.app.state.engine
    viewer = values.pop("viewer", None) or Viewer()
    caller = known_caller(request)
    if caller is not None and caller.tenant is not None:
        # also where something went wrong before the page knew whose it is
        viewer = Viewer(caller.tenant, bound=True)
    page = _templates.get_template(template).render(
        version=__version__,
        replica=request.headers.get("host", ""),
        path=request.url.path,
        engine_obstacle=engine.obstacle(),
        viewer=viewer,
        caller=caller,
        everybody=viewer.tenant is None and caller is not None,
        csrf=csrf_of(request),
        link=lambda path, **query: link(path, viewer, **query),
        **values,
    )
    return HTMLResponse(page, status, HEADERS)


def page(endpoint: Endpoint) -> Endpoint:
    """What goes wrong is shown as a page, too; who is not known is asked who it is."""

    @wraps(endpoint)
    async def shown(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - the same judge as for every other route
            problem = problem_of(error)
            if problem.status == 401:
                return sign_in_first(request)
            answer = render(request, "problem.html", problem.status, problem=problem.document)
            answer.headers.update(problem.headers())
            return answer

    return shown


async def static(request: Request) -> Response:
    """A file of the dashboard; the browser asks again whether it has changed."""
    answer = await _static.get_response(request.path_params["file"], request.scope)
    answer.headers.update({**HEADERS, "cache-control": "no-cache"})
    return answer


def _instant(at_ms: int | None) -> str:
    return "" if not at_ms else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _duration(ms: float) -> str:
    """Short, for people: 340 ms, 12.5 s, 4 min, 3 h."""
    if ms < 1_000:
        return f"{ms:.3g} ms"
    if ms < 120_000:
        return f"{ms / 1_000:.1f} s"
    return f"{ms / 60_000:.0f} min" if ms < 7_200_000 else f"{ms / 3_600_000:.0f} h"


def _number(value: float) -> str:
    """Whole where it is large, with a decimal where that says something; thousands set apart by a thin space."""
    text = f"{value:,.1f}" if 0 < value < 10 and value != int(value) else f"{value:,.0f}"
    return text.replace(",", "\N{THIN SPACE}")


def _latency(ms: float | None) -> str:
    """A bound of the histogram; beyond its last one there is only that one to say."""
    if ms is None:
        return "\N{EN DASH}"
    return "over 2 s" if math.isinf(ms) else f"\N{LESS-THAN OR EQUAL TO} {_duration(ms)}"


def _condition(text: str) -> str:
    """What keeps a node away, in words: `missing_capability tts:en gpu` is "lacks tts:en, gpu"."""
    reason, _, what = text.partition(" ")
    told = ", ".join(what.split())
    if reason == Reason.MISSING_CAPABILITY:
        return f"lacks {told}"
    word = reason.replace("_", " ")
    return f"{word}: {told}" if told else word


_templates.filters |= {
    "condition": _condition,
    "duration": _duration,
    "instant": _instant,
    "latency": _latency,
    "number": _number,
}
