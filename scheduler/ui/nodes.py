"""The list of nodes, searched on this side so that a page stays small, and one node with all that hangs on it."""

import asyncio
from collections import Counter

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.ids import NodeId, checked_id
from scheduler.domain.node import Node
from scheduler.domain.views import NodeView
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.body import number_query
from scheduler.http.problems import Problem
from scheduler.ui import commands
from scheduler.ui.finding import STANDINGS, Sought, find, standing, trouble
from scheduler.ui.pages import Viewer, page, render, viewer_of

ROWS = 100
EVENTS_MAX = 25


def _sought(request: Request, viewer: Viewer) -> Sought:
    asked = request.query_params
    word = asked.get("standing", "")
    if word and word not in STANDINGS:
        raise BadInput("standing", f"must be one of {', '.join(STANDINGS)}")
    return Sought(
        text=asked.get("q", "").strip(),
        pool=asked.get("pool", ""),
        capability=asked.get("capability", "").strip(),
        standing=word,
        tenant=viewer.tenant,
    )


@page
async def nodes(request: Request) -> Response:
    """Which nodes there are is the snapshot's word, what is told of those on the page is Redis's."""
    engine: Engine = request.app.state.engine
    viewer = viewer_of(request)
    parts = await engine.known()
    sought = _sought(request, viewer)
    snapshots = [shard.mirror.snapshot for shard in engine.shards]
    # many nodes are a while: claims go on meanwhile
    found = await asyncio.to_thread(find, snapshots, sought)
    pages = max(-(-len(found) // ROWS), 1)
    number = min(number_query(request, "page", 1, 1, 1_000_000), pages)
    shown = {node.id: node for node in found[(number - 1) * ROWS : number * ROWS]}
    served = viewer.served(snapshots[0].pools)
    views = [
        view if served is None else replace(view, pools=[pool for pool in view.pools if pool in served])
        for view in await parts.fleet.views(list(shown))
    ]
    return render(
        request,
        "nodes.html",
        viewer=viewer,
        sought=sought,
        standings=STANDINGS,
        pools=sorted(name for name, pool in snapshots[0].pools.items() if viewer.serves(pool)),
        total=sum(len(snapshot.positions) for snapshot in snapshots) if viewer.tenant is None else None,
        count=len(found),
        counts=Counter(standing(node) for node in found),
        rows=[(view, _stands(view, shown[NodeId(view.id)])) for view in views],
        page=number,
        pages=pages,
    )


def _stands(view: NodeView, node: Node | None) -> str:
    """The standing by the present state and leases; load and quarantine are judged by the snapshot."""
    if view.state != "ready":
        return view.state
    if node is not None and (node.over or node.quarantined):
        return standing(node)
    return "ready" if view.used < view.slots else "full"


def node_id(request: Request) -> NodeId:
    return NodeId(checked_id("node", request.path_params["node"]))


async def known_node(engine: Engine, node: NodeId, viewer: Viewer) -> NodeView:
    """The node, which a tenant must be allowed to see."""
    fleet = (await engine.known()).fleet
    if viewer.tenant is not None:
        view = await fleet.tenants_node(node, viewer.tenant)
    else:
        view = next(iter(await fleet.views([node])), None)
    if view is None:
        raise Problem(404, "Unknown node", f"No node has the id {node}; a lost one is forgotten after ten minutes.")
    return view


@page
async def node(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    viewer, id_ = viewer_of(request), node_id(request)
    view = await known_node(engine, id_, viewer)
    parts = await engine.known()
    shard = parts.shards.of_node(id_)
    position = shard.mirror.snapshot.positions.get(id_)
    seen = None if position is None else shard.mirror.snapshot.node(position)
    leases, limits, events, now_ms = await asyncio.gather(
        parts.stories.leases_of(id_),
        parts.stories.limits_of(id_),
        parts.stories.of_node(id_, EVENTS_MAX, viewer.tenant),
        shard.views.now_ms(),
    )
    return render(
        request,
        "node.html",
        viewer=viewer,
        node=view,
        stands=_stands(view, seen),
        trouble="" if seen is None else trouble(seen),
        silent_ms=max(now_ms - view.heartbeat_at_ms, 0),
        # what other tenants run here is not for this one to read
        leases=[lease for lease in leases if viewer.tenant in {None, lease.tenant}],
        limits=limits,
        events=events,
        commands=commands.of_node(shard.key, id_),
        done=request.query_params.get("done", "") in {"cordon", "uncordon", "drain"},
    )
