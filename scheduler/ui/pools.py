"""Pools: who is in them, who can take a job now, and where a request goes when there is no room."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.views import PoolView
from scheduler.engine.engine import Engine
from scheduler.http.pools import shown
from scheduler.ui import commands
from scheduler.ui.pages import page, render, viewer_of


def chain(pools: Mapping[str, PoolView], name: str) -> list[PoolView]:
    """The pool, then its fallbacks breadth first, as requests that name it try them; who is served is not asked."""
    order = [name]
    for known in order:  # grows while it is walked
        order += [other for other in dict.fromkeys(pools[known].fallback) if other in pools and other not in order]
    return [pools[known] for known in order]


@page
async def pools(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    viewer = viewer_of(request)
    version, told = await (await engine.known()).pools.pools()
    served = {pool.name: pool for pool in shown(told, viewer.tenant)}
    ordered = sorted(served.values(), key=lambda pool: (-pool.priority, pool.name))
    return render(
        request,
        "pools.html",
        viewer=viewer,
        config_version=version,
        pools=[(pool, chain(served, pool.name)) for pool in ordered],
        commands=commands.of_pool(engine.first.key, ordered[0].name if ordered else "default"),
    )
