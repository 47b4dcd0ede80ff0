"""A process that places and ends jobs over HTTP, through replicas that are killed and stopped under it."""

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from tests.soak.ledger import CANCELLED, CLAIMED, FINISHED, REFUSED, SENT, WAITING, Ledger

IN_FLIGHT, PAUSE_S = 4, 0.05


class Web:
    """Every call is repeated, at any replica, until one has answered it."""

    def __init__(self, name: str, urls: list[str], ledger: Path) -> None:
        self.over = asyncio.Event()
        self._name, self._urls, self._drawn = name, urls, 0
        self._rng = random.Random(name)
        self._ledger = Ledger(ledger)
        self._seen = self._ledger.counts

    async def run(self) -> None:
        limit = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=limit, headers={"x-fleet-tenant": self._name}) as self._client:
            await asyncio.gather(*(self._turns() for _ in range(IN_FLIGHT)))
        self._ledger.tell(done=True)

    async def _turns(self) -> None:
        while not self.over.is_set():
            await self._turn()
            self._ledger.tell()
            await asyncio.sleep(self._rng.random() * 2 * PAUSE_S)

    async def _post(self, path: str, body: dict[str, object]) -> tuple[int, dict[str, Any]]:
        while True:
            try:
                async with self._client.post(f"{self._rng.choice(self._urls)}/v1/jobs{path}", json=body) as answer:
                    told = await answer.json(content_type=None)
                    # 503 without a class says that nothing is known to be decided
                    if answer.status < 500 or "class" in told:
                        return answer.status, told
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
            self._seen["http calls without an answer"] += 1
            await asyncio.sleep(0.05)

    async def _turn(self) -> None:
        self._drawn += 1
        own, rng = f"w{self._drawn}", self._rng
        job, direct = f"{self._name}:{own}", rng.random() < 0.7
        body: dict[str, object] = {"id": own, "requires": ["any"], "deliver": "direct", "ack_ms": 4_000}
        if not direct:
            body = {"id": own, "requires": ["real"], "payload": {"do": "ok"}, "wait_ms": 1_000, "ack_ms": 1_500}
        self._ledger.write([(SENT, job)])
        status, told = await self._post("", body)
        self._seen["http claims"] += 1
        self._seen[f"http {status}"] += 1
        if status == 503:
            self._ledger.write([(REFUSED, job)])
        elif status not in {200, 201, 202}:
            self._seen[f"bad: http {status}"] += 1
        elif not (fence := told["job"]["fence"]):
            self._ledger.write([(WAITING, job)])
        else:
            self._ledger.write([(CLAIMED, job, fence)])
            if direct:
                await self._end(job, fence)

    async def _end(self, job: str, fence: int) -> None:
        if self._rng.random() < 0.1:
            status, told = await self._post(f"/{job}/cancel", {})
            if told.get("outcome") == "cancelled":
                self._ledger.write([(CANCELLED, job)])
        else:
            result = f"{job} {fence}"
            end: dict[str, object] = {"fence": fence, "outcome": "succeeded", "result": result}
            status, told = await self._post(f"/{job}/finish", end)
            if told.get("outcome") == "finished":
                self._ledger.write([(FINISHED, job, fence, "succeeded", result)])
        self._seen[f"http end {status} {told.get('outcome', '')}".strip()] += 1
        self._seen["bad: http end"] += status not in {200, 409}


async def main(name: str, urls: list[str], ledger: Path) -> None:
    web = Web(name, urls, ledger)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, web.over.set)
    await web.run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2].split(","), Path(sys.argv[3])))
