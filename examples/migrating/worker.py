"""A worker as it is today; once `join` has been called, an agent stands beside it and keeps it in the fleet."""

import asyncio
from contextlib import AsyncExitStack, suppress

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from examples.stage import nodes
from scheduler.agent import Job, NodeConfig
from scheduler.domain.ids import NodeId, Token

SLOTS = 4
BEAT_S = 0.2
LABELS = {"kept_by": "itself"}


async def _never(job: Job) -> str:
    raise RuntimeError(f"{job.id} came by the inbox")


class Worker:
    """Takes calls at its endpoint, turns them away when it is full, and tells the old registry that it lives."""

    def __init__(self, name: str, url: str, offers: str) -> None:
        self.name, self.url, self.offers = name, url, offers
        self.busy = self.turned_away = 0

    async def work(self, request: Request) -> Response:
        if self.busy >= SLOTS:
            self.turned_away += 1
            return JSONResponse({"error": "busy"}, 503)
        self.busy += 1
        try:
            await asyncio.sleep((await request.json())["for_ms"] / 1_000)
        finally:
            self.busy -= 1
        return JSONResponse({"done_by": self.name})

    async def beat(self, theirs: httpx.AsyncClient) -> None:
        """Kept up until the very end, so that callers may go back to the old registry at any time."""
        while True:
            told = {"id": self.name, "url": self.url, "offers": [self.offers], "slots": SLOTS, "busy": self.busy}
            with suppress(httpx.TransportError):
                await theirs.post("/heartbeat", json=told)
            await asyncio.sleep(BEAT_S)

    async def join(self, stack: AsyncExitStack, redis_url: str) -> None:
        """Register with Redis under the same id, and heartbeat until the stack closes: the agent's work."""
        config = NodeConfig(
            id=NodeId(self.name),
            slots=SLOTS,
            capabilities=(Token(self.offers),),
            endpoint=self.url,
            labels=LABELS,
        )
        await stack.enter_async_context(nodes(redis_url, [config], _never))
