"""The routes under /v1/nodes, and /v1/cluster."""

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import (
    CancelOrder,
    ClusterAnswer,
    HeartbeatAnswer,
    MarkedAnswer,
    NodeAnswer,
    NodesAnswer,
    OutcomeAnswer,
    RegisteredAnswer,
)
from scheduler.domain.ids import NodeId, checked_id
from scheduler.domain.views import NodeView
from scheduler.engine.engine import Engine
from scheduler.http.access import caller_of
from scheduler.http.body import answer, decoded, is_packed, number_query, read_as, read_body, tenant_of
from scheduler.http.problems import Problem
from scheduler.http.wire import DrainBody, HeartbeatBody, RegisterBody, offered_in, reported
from scheduler.logs import bind
from scheduler.store.functions import Beat, Mark

_LIMITS = ("cpu_max", "gpu_max", "mem_max", "ttl_ms")
_LOADS = ("cpu", "gpu", "mem", "labels")


def _node_id(request: Request) -> NodeId:
    node = NodeId(checked_id("node", request.path_params["node"]))
    bind(node=node)
    return node


def _shown(request: Request, view: NodeView) -> NodeView:
    """To a key of one tenant without the version, which is new with every change of anybody's pool."""
    return view if caller_of(request).tenant is None else replace(view, config_version=0)


def _unknown() -> Problem:
    return Problem(404, "Unknown node", "no node has this id")


async def get_nodes(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    after = request.query_params.get("after", "")
    if after:
        checked_id("after", after)
    nodes, cursor = await (await engine.known()).fleet.nodes(
        after, number_query(request, "limit", 100, 1, 200), tenant_of(request)
    )
    return answer(request, NodesAnswer([_shown(request, node) for node in nodes], cursor))


async def get_node(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    view = await (await engine.known()).fleet.tenants_node(_node_id(request), tenant_of(request))
    if view is None:
        raise _unknown()
    return answer(request, NodeAnswer(_shown(request, view)))


async def put_node(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    node, body = _node_id(request), await read_as(request, RegisterBody)
    registered = (
        await (await engine.known())
        .shards.of_node(node)
        .functions.node_register(
            node,
            endpoint=body.endpoint,
            slots=body.slots,
            capabilities=offered_in(body),
            **reported(body, *_LOADS, *_LIMITS),
        )
    )
    pools = registered.pools
    if (tenant := caller_of(request).tenant) is not None:
        served = await (await engine.known()).fleet.served(node, tenant)
        pools = tuple(pool for pool in pools if pool in served)
    return answer(request, RegisteredAnswer("registered", registered.incarnation, pools), 201)


async def post_heartbeat(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    node, body = _node_id(request), await read_as(request, HeartbeatBody)
    fields = reported(body, *_LOADS, "slots", "running")
    if body.capabilities is not None or body.services is not None:
        fields["capabilities"] = " ".join(offered_in(body))
    beat = (
        await (await engine.known()).shards.of_node(node).functions.node_heartbeat(node, body.incarnation, **fields)
    )
    if isinstance(beat, Beat):
        cancels = [CancelOrder(job, fence) for job, fence in beat.cancels]
        return answer(request, HeartbeatAnswer("ok", beat.ttl_ms, cancels, beat.drain_ms, beat.refused))
    if beat == "unknown":
        raise Problem(404, "Unknown node", "the node is not known (any more): register again")
    raise Problem(409, "Fenced", "another process has registered this id: stop", field="incarnation")


async def check_operated(request: Request, node: NodeId) -> None:
    """Raise unless the caller may mark the node: an operator of one tenant may where that one alone is served."""
    tenant = caller_of(request).tenant
    if tenant is None:
        return
    alone = await (await request.app.state.engine.known()).fleet.tenants_alone(node, tenant)
    if alone is None:
        raise _unknown()
    if not alone:
        raise Problem(403, "Forbidden", "the node is in a pool that is not this tenant's alone", field="node")


async def _mark(request: Request, mark: Mark, drain_ms: int | None = None) -> Response:
    engine: Engine = request.app.state.engine
    node = _node_id(request)
    await check_operated(request, node)
    state = await (await engine.known()).shards.of_node(node).functions.node_mark(node, mark, drain_ms)
    if state is None:
        raise _unknown()
    return answer(request, MarkedAnswer("marked", state))


async def cordon_node(request: Request) -> Response:
    return await _mark(request, "cordon")


async def uncordon_node(request: Request) -> Response:
    return await _mark(request, "uncordon")


async def drain_node(request: Request) -> Response:
    raw = await read_body(request)
    body = decoded(raw, DrainBody, packed=is_packed(request)) if raw else DrainBody()
    return await _mark(request, "drain", body.drain_ms)


async def delete_node(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    word = await (await engine.known()).fleet.remove(_node_id(request))
    if word == "unknown":
        raise _unknown()
    if word == "fenced":
        raise Problem(409, "Fenced", "the node registered again while it was being removed")
    return answer(request, OutcomeAnswer(word))


async def get_cluster(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    return answer(request, msgspec.convert(await (await engine.known()).fleet.cluster(), ClusterAnswer))
