"""The callers: `by_theirs` is what they do today, `by_fleet` what they do after. The flag between them is `ask`."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import httpx

from scheduler.client import AsyncClient, ExplainAnswer, NewJob, Refused

DEADLINE_S, AGAIN_S = 10.0, 0.05
Ask = Callable[[str, int], Awaitable[bool]]


class Callers:
    """Each call asks for a worker and speaks with it; one that finds none asks again until its deadline."""

    def __init__(self, theirs: httpx.AsyncClient, fleet: AsyncClient, plain: httpx.AsyncClient) -> None:
        self._theirs, self._fleet, self._plain = theirs, fleet, plain
        self.shadowed: Counter[bool] = Counter()

    async def by_theirs(self, needs: str, for_ms: int) -> bool:
        told = await self._theirs.post("/assign", json={"needs": [needs]})
        if told.status_code == 503:
            return False
        place = told.json()
        try:
            return await self._speak(place["url"], for_ms)
        finally:
            await self._theirs.post("/release", json={"id": place["id"]})

    async def by_fleet(self, needs: str, for_ms: int) -> bool:
        try:
            job = (await self._fleet.place(NewJob(requires=[needs], deliver="direct"), patient=False)).job
        except Refused:
            return False
        assert job.node is not None  # noqa: S101 - it does not wait, so it was placed
        await self._fleet.start(job.id, job.fence)
        done = False
        try:
            done = await self._speak(job.node.endpoint, for_ms)
        finally:
            # the slot is free at once; a caller that dies here gives it back after the job's timeout_ms
            await self._fleet.finish(job.id, job.fence, "succeeded" if done else "failed")
        return done

    async def shadow(self, needs: str, for_ms: int) -> bool:
        """Theirs decides, the fleet is asked what it would say: nothing is claimed by that."""
        told = await self.explain(needs)
        done = await self.by_theirs(needs, for_ms)
        self.shadowed[done == (told.class_ == "placeable")] += 1
        return done

    async def explain(self, needs: str) -> ExplainAnswer:
        return await self._fleet.explain(NewJob(requires=[needs]))

    async def _speak(self, url: str, for_ms: int) -> bool:
        return (await self._plain.post(url, json={"for_ms": for_ms})).is_success

    async def calls(self, ask: Ask, needs: Sequence[str], count: int, for_ms: int = 30) -> int:
        """Make calls, two at a time for each need; answers how many were lost."""
        done = await asyncio.gather(
            *(self._row(ask, need, count // len(needs) // 2, for_ms) for need in needs for _ in range(2))
        )
        return sum(done)

    async def _row(self, ask: Ask, need: str, count: int, for_ms: int) -> int:
        return sum([not await self._insist(ask, need, for_ms) for _ in range(count)])

    async def _insist(self, ask: Ask, need: str, for_ms: int) -> bool:
        end = time.monotonic() + DEADLINE_S
        while not await ask(need, for_ms):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(AGAIN_S)
        return True
