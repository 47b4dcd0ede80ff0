"""Steady requests, each with an id of its own, sent again with it until it is answered or its patience is over."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

import aiohttp

PATIENCE_S, TRY_S = 30.0, 3.0


@dataclass
class Sent:
    """One request. Times are of time.monotonic; `answered` is None where nobody ever took it."""

    id: str
    begun: float
    answered: float | None = None
    tries: int = 0
    said: list[str] = field(default_factory=list)


class Load:
    """`run` sends so many a second until `stop`; every request is then waited for."""

    def __init__(self, urls: list[str], rate: float) -> None:
        self._urls = itertools.cycle(urls)
        self._rate = rate
        self._stop = asyncio.Event()
        self.sent: list[Sent] = []

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TRY_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=500)) as http:
            started, tasks = time.monotonic(), list[asyncio.Task[None]]()
            for number in itertools.count():
                if self._stop.is_set():
                    break
                await asyncio.sleep(max(started + number / self._rate - time.monotonic(), 0))
                sent = Sent(f"job-{number}", time.monotonic())
                self.sent.append(sent)
                tasks.append(asyncio.create_task(self._send(http, sent)))
            await asyncio.gather(*tasks)

    async def _send(self, http: aiohttp.ClientSession, sent: Sent) -> None:
        body = {"id": sent.id, "requires": ["work"], "payload": {"n": sent.id}, "wait_ms": 60_000}
        while time.monotonic() - sent.begun < PATIENCE_S:
            sent.tries += 1
            try:
                async with http.post(f"{next(self._urls)}/v1/jobs", json=body) as answer:
                    said = await answer.text()
                    if answer.status in {200, 201, 202}:
                        sent.answered = time.monotonic()
                        return
                    sent.said.append(f"{answer.status} {said[:160]}")
            except (aiohttp.ClientError, TimeoutError) as error:
                sent.said.append(repr(error)[:160])
            await asyncio.sleep(0.1)
