"""The explanation of Redis itself, all of its pages together."""

import json

from scheduler.domain.demand import Demand
from scheduler.domain.explanation import Explanation, NodeVerdict, denied, explained
from scheduler.domain.ids import NodeId
from scheduler.store.functions import Functions

PAGES_MAX = 10_000


def _asked(demand: Demand, exclude: frozenset[NodeId], *, everyone: bool) -> str:
    asked: dict[str, object] = {
        "any_of": [sorted(tokens) for tokens in demand.any_of],
        "tenant": demand.tenant,
        "fallback": demand.fallback,
        "languages": demand.languages,
        "exclude": sorted(exclude),
        "all": everyone,
    }
    if demand.pool is not None:
        asked["pool"] = demand.pool
    return json.dumps(asked)


async def explain_by_redis(
    functions: Functions, demand: Demand, exclude: frozenset[NodeId], *, everyone: bool = False
) -> Explanation:
    """Why the demand would be placed or not, by the true state; everyone: also nodes of other tenants' pools."""
    text, cursor = _asked(demand, exclude, everyone=everyone), "0"
    nodes: list[NodeVerdict] = []
    for _ in range(PAGES_MAX):
        page = await functions.explain(text, cursor)
        nodes += page.nodes
        cursor = page.cursor
        if page.denied and demand.pool is not None:
            return denied(demand.pool)
        if cursor == "0":
            break
    return explained(page.order, nodes)
