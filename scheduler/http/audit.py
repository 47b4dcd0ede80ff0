"""GET /v1/audit: who changed nodes, pools, quotas, keys or others' jobs, the newest first, a page at a time."""

import asyncio
import heapq

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import AuditAnswer
from scheduler.engine.engine import Engine
from scheduler.http.body import answer, number_query
from scheduler.store.events import PAGE, checked_position, order


async def get_audit(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    before = request.query_params.get("before", "")
    position = checked_position("before", before) if before else "+"
    limit = number_query(request, "limit", 100, 1, 1_000)
    await engine.known()
    pages = await asyncio.gather(*(shard.audit.before(position) for shard in engine.shards))
    merged = list(heapq.merge(*pages, key=lambda entry: order(entry.position), reverse=True))
    # what happened in two shards at one position stays on one page, for the next begins in front of it
    end = limit
    while 0 < end < len(merged) and merged[end].position == merged[end - 1].position:
        end += 1
    told = merged[:end]
    more = len(merged) > end or any(len(page) == PAGE for page in pages)
    cursor = told[-1].position if told and more else None
    entries = [msgspec.json.decode(entry.json) for entry in told]
    return answer(request, AuditAnswer(entries, cursor))
