"""POST /v1/explain: a dry run by this replica's snapshot; nothing is claimed."""

from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import ExplainAnswer, ExplainedNode, ExplainedPool
from scheduler.domain.explanation import Explanation, NodeVerdict
from scheduler.domain.ids import NodeId, Tenant, checked_id
from scheduler.engine.engine import Engine
from scheduler.http.body import answer, number_query, read_as, tenant_of
from scheduler.http.wire import JobBody, demand_in


def explained_node(verdict: NodeVerdict) -> ExplainedNode:
    pool = verdict.pools[0] if verdict.pools else None
    return ExplainedNode(verdict.node, pool, verdict.reason or "eligible", verdict.conditions)


def explained_answer(found: Explanation, age_ms: int, after: str, limit: int) -> ExplainAnswer:
    """The whole verdict with a page of its nodes, by id."""
    behind = [node for node in found.nodes if node.node > after]
    page = behind[:limit]
    return ExplainAnswer(
        class_=found.class_,
        reasons={str(reason): count for reason, count in found.reasons.items()},
        pools=[
            ExplainedPool(p.pool, p.class_, p.eligible, {str(reason): n for reason, n in p.reasons.items()})
            for p in found.pools
        ],
        near_miss=None if found.near_miss is None else explained_node(found.near_miss),
        nodes=[explained_node(verdict) for verdict in page],
        cursor=page[-1].node if len(behind) > limit else None,
        snapshot_age_ms=age_ms,
    )


async def explanation(engine: Engine, body: JobBody, tenant: Tenant) -> tuple[Explanation, int]:
    """What the tenant would be told of this body, and the age of the snapshot that says so."""
    fleet = (await engine.known()).fleet
    return await fleet.explain(demand_in(body, tenant), frozenset(map(NodeId, body.exclude)))


async def post_explain(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    after = request.query_params.get("after", "")
    if after:
        checked_id("after", after)
    limit = number_query(request, "limit", 100, 1, 1_000)
    tenant, body = tenant_of(request), await read_as(request, JobBody)
    found, age_ms = await explanation(engine, body, tenant)
    return answer(request, explained_answer(found, age_ms, after, limit))
