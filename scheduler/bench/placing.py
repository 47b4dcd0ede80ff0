"""Row c's own side, in a process of its own: placements by an engine without HTTP, with as many callers as the peers.

`python -m scheduler.bench.placing URL SECONDS`, against a server that has the library and nodes.
"""

import asyncio
import time

import msgspec
import uvloop

from scheduler.bench.peers.measuring import PAYLOAD, asked, measure_async
from scheduler.bench.stage import JOB
from scheduler.domain.ids import Tenant
from scheduler.engine.dispatch import Placement
from scheduler.engine.engine import Engine
from scheduler.errors import NoServer
from scheduler.http.wire import JobBody, job_request
from scheduler.settings import Settings

READY_S = 30.0


async def main() -> None:
    url, seconds = asked()
    body = msgspec.convert(JOB | {"payload": msgspec.Raw(msgspec.json.encode(PAYLOAD))}, JobBody)
    tenant = Tenant("default")
    engine = Engine(Settings(redis_url=url))
    await engine.start()

    async def place() -> None:
        # the request is made for each job, as a peer makes its message
        verdict = await engine.place(job_request(body, tenant, packed=False))
        if not isinstance(verdict, Placement):
            raise NoServer(f"a job is not placed: {verdict!r}")

    try:
        end = time.monotonic() + READY_S
        while obstacle := engine.obstacle():
            if time.monotonic() > end:
                raise NoServer(obstacle)
            await asyncio.sleep(0.02)
        await measure_async(place, seconds)
    finally:
        await engine.stop()


if __name__ == "__main__":
    uvloop.run(main())
