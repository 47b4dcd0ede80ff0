"""A fleet moves from a registry in memory to Redis while calls go on; each step says what it did."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from examples.migrating.callers import Callers
from examples.migrating.registry import create
from examples.migrating.shim import Shim
from examples.migrating.worker import SLOTS, Worker
from examples.stage import replicas, server
from scheduler.client import AsyncClient
from scheduler.dev.server import free_port

OFFERS = ("asr:zh", "tts:en")
CALLS = 80


@asynccontextmanager
async def served(app: Starlette, port: int) -> AsyncIterator[None]:
    # connections stay for as long as a client may keep one, or it would write into one that was just closed
    config = uvicorn.Config(app, port=port, log_level="warning", timeout_keep_alive=60)
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    try:
        await until(lambda: asyncio.sleep(0, running.started), "the server listens")
        yield
    finally:
        running.should_exit = True
        await task


@asynccontextmanager
async def kept_up(*work: Awaitable[None]) -> AsyncIterator[None]:
    """These run until the end of the block, and a fault in one of them is not lost."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def until(true: Callable[[], Awaitable[object]], what: str) -> None:
    end = time.monotonic() + 20
    while not await true():
        if time.monotonic() > end:
            raise TimeoutError(f"never came: {what}")
        await asyncio.sleep(0.02)


class Move:
    """The steps, in the order of docs/migrating.md."""

    def __init__(
        self, callers: Callers, workers: list[Worker], fleet: AsyncClient, replica: httpx.AsyncClient
    ) -> None:
        self.callers, self.workers, self.fleet, self._replica = callers, workers, fleet, replica
        self.lost = 0

    async def calls(self, step: str, ask: str, count: int = CALLS) -> None:
        lost = await self.callers.calls(getattr(self.callers, ask), OFFERS, count)
        self.lost += lost
        print(f"{step}: {count} calls, {lost} lost", flush=True)

    async def states(self) -> dict[str, tuple[str, int]]:
        return {node.id: (node.state, node.used) async for node in self.fleet.nodes()}

    async def incarnations(self) -> dict[str, int]:
        return {node.id: node.incarnation async for node in self.fleet.nodes()}

    async def shadow(self) -> None:
        await self.calls("3 shadow: theirs places, the fleet is asked too", "shadow")
        print(
            f"  they agree {self.callers.shadowed[True]} times, and {self.callers.shadowed[False]} times they do not"
        )
        need = OFFERS[0]
        slots = SLOTS * sum(worker.offers == need for worker in self.workers)
        ways = [asyncio.create_task(self.callers.by_theirs(need, 2_000)) for _ in range(slots)]

        async def full() -> bool:
            return (await self.callers.explain(need)).class_ != "placeable"

        await until(full, "the fleet knows that all are busy")
        told = await self.callers.explain(need)
        print(f"  all busy, theirs: {'placed' if await self.callers.by_theirs(need, 1) else '503 no capacity'}")
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(told.reasons.items()))
        print(f"  all busy, fleet:  503 {told.class_}: {reasons}")
        await asyncio.gather(*ways)

    async def go_over(self, shim: Shim, stack: AsyncExitStack, redis_url: str) -> None:
        """One worker after the other, each while nothing is on it; the others carry the calls meanwhile."""
        for worker in self.workers:
            (await self._replica.post(f"/v1/nodes/{worker.name}/cordon")).raise_for_status()

            async def empty(name: str = worker.name) -> bool:
                return (await self.states())[name] == ("cordoned", 0)

            async def fenced(name: str = worker.name) -> bool:
                return name in shim.gone_over

            await until(empty, f"nothing runs on {worker.name}")
            await worker.join(stack, redis_url)
            await until(fenced, "the shim has noticed")

    async def run(self, theirs: httpx.AsyncClient, stack: AsyncExitStack, redis_url: str) -> None:
        await self.calls("1 as it is", "by_theirs")
        shim = Shim(theirs, self._replica)
        async with kept_up(shim.run()):
            await until(_all_kept(shim, self.workers), "the shim has brought all workers")
            print(f"2 in both: the shim keeps {' '.join(shim.kept)}")
            await self.shadow()
        # it keeps nothing that matters: another one goes on
        before, shim = await self.incarnations(), Shim(theirs, self._replica)
        async with kept_up(shim.run()):
            await until(_all_kept(shim, self.workers), "the next shim has found all workers")
            same = await self.incarnations() == before
            print(f"  another shim goes on with the same incarnations: {'yes' if same else 'NO'}")
            await self.calls("4 reads switched: the fleet places", "by_fleet")
            moving = asyncio.create_task(self.go_over(shim, stack, redis_url))
            await self.calls("5 nodes heartbeat themselves, one after the other", "by_fleet", 2 * CALLS)
            await moving
            print(f"  gone over: {' '.join(sorted(shim.gone_over))}; the shim keeps {len(shim.kept)}")
            await self.calls("  back for a moment: theirs places", "by_theirs")


async def run(redis_url: str, urls: list[str]) -> bool:
    ports = free_port(), free_port()
    theirs_url, workers_url = (f"http://127.0.0.1:{port}" for port in ports)
    workers = [Worker(f"worker-{i + 1}", f"{workers_url}/worker-{i + 1}", OFFERS[i // 2]) for i in range(4)]
    endpoints = Starlette(routes=[Route(f"/{worker.name}", worker.work, methods=["POST"]) for worker in workers])
    async with (
        AsyncExitStack() as stack,
        httpx.AsyncClient(base_url=theirs_url, timeout=10) as theirs,
        httpx.AsyncClient(base_url=urls[0], timeout=10) as replica,
        httpx.AsyncClient(timeout=10) as plain,
        AsyncClient(urls) as fleet,
        served(endpoints, ports[1]),
    ):
        callers = Callers(theirs, fleet, plain)
        move = Move(callers, workers, fleet, replica)
        async with kept_up(*(worker.beat(theirs) for worker in workers)), served(create(), ports[0]):
            await until(_heard(theirs, len(workers)), "the workers are in the old registry")
            await move.run(theirs, stack, redis_url)
        before = sum(worker.turned_away for worker in workers)
        await move.calls("6 the old registry and the shim are off", "by_fleet")
        away = sum(worker.turned_away for worker in workers) - before
        states = await move.states()
    print(f"\nlost calls: {move.lost}; turned away by a full worker since then: {away}")
    in_order = set(states.values()) == {("ready", 0)} and len(states) == len(workers)
    print(f"every node is ready and every slot is free: {'yes' if in_order else 'NO'}")
    return in_order and move.lost == 0 and away == 0 and callers.shadowed[False] == 0


def _heard(theirs: httpx.AsyncClient, count: int) -> Callable[[], Awaitable[bool]]:
    async def heard() -> bool:
        return len((await theirs.get("/workers")).json()) == count

    return heard


def _all_kept(shim: Shim, workers: Sequence[Worker]) -> Callable[[], Awaitable[bool]]:
    async def kept() -> bool:
        return shim.kept == [worker.name for worker in workers]

    return kept


def main() -> int:
    with server() as redis_url, replicas(redis_url, 2) as urls:
        return 0 if asyncio.run(run(redis_url, urls)) else 1


if __name__ == "__main__":
    sys.exit(main())
