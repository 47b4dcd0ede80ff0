"""Honest clients meanwhile: jobs, placed and finished at a steady rate, some over connections of their own."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

TRY_S = 10.0
# Every so manieth request comes over a new connection.
FRESH = 10


@dataclass
class Calm:
    """What honest clients saw: seconds of every call that was answered well, and what was not."""

    took_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    # cores that the replicas took meanwhile
    cores: float = 0.0

    def p(self, part: float) -> float:
        ordered = sorted(self.took_s)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("inf")


class Honest:
    """Clients of one address. Nothing is sent twice: what fails is told."""

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate = url, rate

    async def run(self, seconds: float) -> Calm:
        calm, tasks = Calm(), list[asyncio.Task[None]]()
        begun = time.monotonic()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TRY_S)) as http:
            for number in range(int(seconds * self._rate)):
                await asyncio.sleep(max(begun + number / self._rate - time.monotonic(), 0))
                tasks.append(asyncio.create_task(self._one(http, number, calm)))
            await asyncio.gather(*tasks)
        return calm

    async def _one(self, http: aiohttp.ClientSession, number: int, calm: Calm) -> None:
        try:
            if number % FRESH:
                await self._place(http, calm)
            else:
                async with aiohttp.ClientSession(timeout=http.timeout) as fresh:
                    await self._place(fresh, calm)
        except (aiohttp.ClientError, TimeoutError) as error:
            calm.failed.append(repr(error)[:160])

    async def _place(self, http: aiohttp.ClientSession, calm: Calm) -> None:
        body: dict[str, object] = {"requires": ["work"], "deliver": "direct"}
        job = (await self._call(http, "/v1/jobs", body, 201, calm)).get("job")
        if job:
            finish: dict[str, object] = {"fence": job["fence"], "outcome": "succeeded"}
            await self._call(http, f"/v1/jobs/{job['id']}/finish", finish, 200, calm)

    async def _call(
        self, http: aiohttp.ClientSession, path: str, body: dict[str, object], wanted: int, calm: Calm
    ) -> dict[str, dict[str, object]]:
        begun = time.monotonic()
        async with http.post(self._url + path, json=body) as answer:
            said = await answer.read()
            if answer.status != wanted:
                calm.failed.append(f"{answer.status} {said[:120]!r}")
                return {}
            calm.took_s.append(time.monotonic() - begun)
            told: dict[str, dict[str, object]] = await answer.json()
            return told
