"""Bare claims, one FCALL each, by redis-py and hiredis alone: what row h's latency is compared with."""

import asyncio
import random
import time
from typing import Any, cast

import msgpack
import msgspec
from redis.asyncio import Redis

from scheduler.bench.load import Load, paced
from scheduler.bench.stage import P
from scheduler.bench.targets import Seen
from scheduler.domain.ids import Tenant
from scheduler.engine.mirror import Mirror
from scheduler.http.wire import JobBody, demand_in, job_request
from scheduler.placement.eligible import Compiled
from scheduler.placement.select import select
from scheduler.store.client import Client
from scheduler.store.codec import Shortlist, pack_claim
from scheduler.store.functions import Functions

D = 3


async def _packed(client: Redis, load: Load, count: int) -> list[bytes]:
    """As many claims as a replica would send for this body, ready before the clock runs."""
    mirror = Mirror(Functions(cast("Client", client), P), refresh_ms=200)
    await mirror.refresh()
    snapshot, tenant = mirror.snapshot, Tenant("default")
    body = msgspec.json.decode(load.body, type=JobBody)
    eligible, rng = Compiled().get(snapshot, demand_in(body, tenant)), random.Random()
    packed = []
    for _ in range(count):
        drawn = select(snapshot, eligible, D, frozenset(), rng)
        nodes = [snapshot.node(position) for position in drawn.positions]
        shown = [node.id for node in nodes], [node.structure for node in nodes], drawn.ranks
        shortlist = Shortlist(*shown, snapshot.config_version, snapshot.structure_version)
        packed.append(pack_claim(job_request(body, tenant, packed=False), shortlist))
    return packed


async def raw(load: Load) -> Seen:
    client, saw = Redis(port=load.ports[0]), Seen()
    claims = iter(await _packed(client, load, int(load.rate * load.seconds)))
    # connections that are open before the clock runs, as those of HTTP are
    await asyncio.gather(*(client.ping() for _ in range(load.connections)))
    under_way: set[asyncio.Task[None]] = set()

    async def claim(due: float) -> None:
        answer: Any = await client.execute_command("FCALL", "fleet1_job_claim", 1, P, next(claims))
        saw.saw(201 if msgpack.unpackb(answer[1])[0][0] == "placed" else 0, time.monotonic() - due)

    def send(due: float) -> None:
        task = asyncio.create_task(claim(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    began = time.monotonic()
    await paced(load.rate, load.seconds, send)
    saw.seconds = time.monotonic() - began
    await asyncio.gather(*under_way)
    await client.aclose()
    return saw
