"""A real fleet, agents in it, and a look at what they leave there."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from scheduler.agent import Agent, Handler, Job, NodeConfig
from scheduler.dev.server import EmbeddedServer
from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, Tenant, Token
from scheduler.domain.job import JobRequest, Placement
from scheduler.store.client import connect
from scheduler.store.codec import Placed, Shortlist
from scheduler.store.functions import Functions
from scheduler.store.library import load_library
from tests.sharded import Shards

P = "fleet:{0}"
NODE = NodeId("n1")


async def until(condition: Callable[[], object], deadline_s: float = 10) -> None:
    """Wait for a condition; a failure says which one did not come true."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s} s: {condition.__qualname__}")
        await asyncio.sleep(0.01)


def node_config(**fields: Any) -> NodeConfig:
    """Node n1 that offers `work`; a busy test machine must not take it out."""
    given: dict[str, Any] = {
        "id": NODE,
        "slots": 2,
        "capabilities": (Token("work"),),
        "heartbeat_ms": 100,
        "drain_ms": 5_000,
    }
    limits: dict[str, Any] = {"cpu_max": 100, "gpu_max": 100, "mem_max": 100}
    return NodeConfig(**(given | limits | fields))


class Gated:
    """A handler that waits to be let go; what it saw is kept."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.cancelled: list[Job] = []
        self.at_once = 0
        self.most = 0
        self.go = asyncio.Event()
        self.clean_up = asyncio.Event()
        self.clean_up.set()

    async def __call__(self, job: Job) -> str:
        self.begun.append(job)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job)
            await self.clean_up.wait()
            raise
        finally:
            self.at_once -= 1
        return f"done {job.id}"


class Site:
    """What a test does from outside: places jobs and looks."""

    def __init__(self, shards: Shards, url: str) -> None:
        self.url = url
        self.shards = shards
        self.client = shards.redis
        self.async_client = connect(url)
        # the shard of n1, on which these tests are
        self.key = shards.of_node(NODE)
        self.functions = Functions(self.async_client, self.key)

    async def claim(self, job: str, payload: str | None = None, timeout_ms: int = 60_000) -> Placement | None:
        """Redis finds a node by itself; None where it has none."""
        demand = demand_from_tokens(["work"], Tenant("acme"))
        request = JobRequest(JobId(job), "d", demand, payload=payload, timeout_ms=timeout_ms)
        (answer,) = await self.functions.job_claim([(request, Shortlist([], [], [], 0, 0))])
        return answer.placement if isinstance(answer, Placed) else None

    async def place(self, job: str, payload: str | None = None, timeout_ms: int = 60_000) -> Placement:
        placement = await self.claim(job, payload, timeout_ms)
        assert placement is not None, f"{job} was not placed"
        return placement

    def job(self, job: str) -> dict[str, str]:
        raw: Any = self.client.hgetall(f"{self.key}:job:{job}")
        return {key.decode(): value.decode() for key, value in raw.items()}

    def ended(self, job: str) -> bool:
        return self.job(job).get("state") in {"succeeded", "failed", "cancelled"}

    def used(self, node: str = NODE) -> int:
        return self.shards.holding(node)

    def node(self, node: str = NODE) -> dict[str, str]:
        raw: Any = self.client.hgetall(self.shards.node(node))
        return {key.decode(): value.decode() for key, value in raw.items()}

    def leases(self) -> list[str]:
        """Every key that holds a lease, of present and of past incarnations."""
        return [name for name in self.shards.found("*") if name.endswith("leases") or "orphan" in name]

    @asynccontextmanager
    async def agent(
        self, handler: Handler, config: NodeConfig | None = None, url: str | None = None
    ) -> AsyncIterator[tuple[Agent, "asyncio.Task[None]"]]:
        """An agent that is registered; at the end it is asked to leave, unless it has ended by itself."""
        agent = Agent(config or node_config(), handler, url or self.url)
        task = asyncio.create_task(agent.run())
        try:
            await until(lambda: agent.incarnation is not None or task.done())
            yield agent, task
        finally:
            agent.leave()
            await asyncio.wait([task], timeout=20)
            assert task.done(), "the agent does not leave"
            if task.exception() is None:
                task.result()


@asynccontextmanager
async def site_on(server: EmbeddedServer) -> AsyncIterator[Site]:
    """A site on a server of the test's own, with the library; all is closed however the test ends."""
    with redis.Redis(port=server.port, socket_timeout=10) as client:
        site = Site(Shards(client), server.url)
        try:
            await load_library(site.async_client)
            yield site
        finally:
            await site.async_client.aclose()


@pytest.fixture
async def site(shards: Shards, redis_url: str) -> AsyncIterator[Site]:
    opened = Site(shards, redis_url)
    yield opened
    await opened.async_client.aclose()
