"""What every race stands on: a server, real replicas over HTTP, client processes, an auditor, and the verdict."""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event as EventType
from typing import Any, TypeAlias

import aiohttp
import httpx
import redis

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from tests.race.audited import P, audited_library, read_audit

IN_FLIGHT = 6
# One script is one instant: of every node whether it is in P:free, its slots, and tenant and pool of its leases.
AUDIT = """
local seen = {}
for i, id in ipairs(ARGV) do
  local key = KEYS[1] .. ':node:' .. id
  local row = { redis.call('SISMEMBER', KEYS[1] .. ':free', id), redis.call('HGET', key, 'slots') }
  for _, job in ipairs(redis.call('ZRANGE', key .. ':leases', 0, -1)) do
    local held = redis.call('HMGET', KEYS[1] .. ':job:' .. job, 'tenant', 'pool')
    row[#row + 1] = held[1] .. ' ' .. held[2]
  end
  seen[i] = row
end
return seen
"""


@dataclass(frozen=True)
class Ask:
    """One claim: who asks, for what. `body` is that of POST /v1/jobs."""

    tenant: str
    body: dict[str, object]


def _anywhere(tenant: str, pool: str, node: str) -> bool:
    return bool(tenant and pool and node)


@dataclass(frozen=True)
class Scene:
    """One race. Functions are those of a module, so that they reach other processes.

    `ask` draws a claim. `belongs` says whether tenant, pool and node of a lease fit, where that never changes.
    `meddle` runs in a process of its own until the event is set and answers what it did. `quotas` are the slots that
    tenants may occupy.
    """

    title: str
    nodes: dict[str, dict[str, object]]
    ask: Callable[[random.Random], Ask]
    pools: dict[str, dict[str, object]] = field(default_factory=dict)
    holds: tuple[tuple[Ask, int], ...] = ()
    belongs: Callable[[str, str, str], bool] = _anywhere
    meddle: Callable[[str, EventType], Counter[str]] | None = None
    quotas: dict[str, int] = field(default_factory=dict)


Counts = Counter[str]
Channel: TypeAlias = "multiprocessing.Queue[tuple[int, Counter[str]]]"


def fcall(client: redis.Redis, name: str, *args: object) -> list[Any]:
    answer: Any = client.execute_command("FCALL", f"fleet1_{name}", 1, P, *args)
    return [word.decode() if isinstance(word, bytes) else word for word in answer]


def register(client: redis.Redis, name: str, fields: dict[str, object]) -> str:
    """A node that lives for the whole race; answers its incarnation."""
    given = {"endpoint": f"http://{name}", "ttl_ms": 3_600_000, **fields}
    return str(fcall(client, "node_register", name, *(word for pair in given.items() for word in pair))[1])


def _fits(scene: Scene, lease: str, node: str) -> bool:
    tenant, pool = lease.split(" ")
    return scene.belongs(tenant, pool, node)


def audit(url: str, scene: Scene, over: EventType) -> Counts:
    """From outside: leases beyond slots, P:free at odds with the leases, leases of a tenant outside its pools."""
    script, seen = redis.Redis.from_url(url).register_script(AUDIT), Counts()
    while not over.is_set():
        occupied = Counts()
        for name, (free, slots, *leases) in zip(scene.nodes, script(keys=[P], args=list(scene.nodes)), strict=True):
            seen["bad:oversold"] += len(leases) > int(slots)
            seen["bad:free_is_wrong"] += free != (len(leases) < int(slots))
            seen["bad:lease_outside"] += sum(not _fits(scene, lease.decode(), name) for lease in leases)
            occupied.update(lease.decode().partition(" ")[0] for lease in leases)
        for tenant, most in scene.quotas.items():
            seen["bad:over_quota"] += occupied[tenant] > most
            seen[f"saw {tenant} with its whole quota"] += occupied[tenant] == most
        seen["reads"] += 1
        time.sleep(0.002)
    return seen


async def contend(scene: Scene, urls: list[str], budget: int, seed: int) -> Counts:
    """Claim until the budget is used; what was placed is finished a few ms later, so slots keep changing hands."""
    rng, seen, used = random.Random(seed), Counts(), 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:

        async def post(path: str, body: dict[str, object], tenant: str) -> tuple[int, Any]:
            url = f"{rng.choice(urls)}/v1/jobs{path}"
            async with client.post(url, json=body, headers={"x-fleet-tenant": tenant}) as answer:
                return answer.status, await answer.json(content_type=None)

        async def one() -> None:
            nonlocal used
            while used < budget:
                used += 1
                ask = scene.ask(rng)
                status, body = await post("", {**ask.body, "deliver": "direct"}, ask.tenant)
                seen["claims"] += 1
                seen[f"{status} {body.get('class', '')}".strip()] += 1
                if status == 201:
                    saw(ask.tenant, body["job"], body["placement"])
                    await asyncio.sleep(rng.random() * 0.005)
                    finish: dict[str, object] = {"fence": body["job"]["fence"], "outcome": "succeeded"}
                    ended, _ = await post(f"/{body['job']['id']}/finish", finish, ask.tenant)
                    seen["bad:unfinished"] += ended != 200
                elif status not in {403, 422, 503} and not (status == 429 and ask.tenant in scene.quotas):
                    seen["bad:failed"] += 1

        def saw(tenant: str, job: dict[str, Any], placement: dict[str, Any]) -> None:
            seen["placed"] += 1
            seen[f"placed for {tenant} in {job['pool']}"] += 1
            seen["conflicts"] += placement["conflict"]
            seen["fallbacks used"] += placement["fallback_used"]
            seen["bad:answered_outside"] += not scene.belongs(tenant, job["pool"], job["node"]["id"])

        await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
    return seen


def _contend(scene: Scene, urls: list[str], budget: int) -> Counts:
    return asyncio.run(contend(scene, urls, budget, os.getpid()))


def _report(out: Channel, work: Callable[..., Counts], args: tuple[object, ...]) -> None:
    out.put((os.getpid(), work(*args)))


def _start(work: Callable[..., Counts], *args: object) -> Channel:
    out: Channel = multiprocessing.Queue()
    multiprocessing.Process(target=_report, args=(out, work, args), daemon=True).start()
    return out


def wait_known(url: str, count: int, deadline_s: float = 20) -> None:
    """Until the replica's snapshot holds so many nodes."""
    end = time.monotonic() + deadline_s
    while httpx.get(f"{url}/v1/cluster").json()["nodes"]["ready"] < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{url} does not know {count} nodes within {deadline_s} s")
        time.sleep(0.05)


def hold(url: str, scene: Scene) -> int:
    """Fill most of the fleet with leases that outlive the race."""
    held = 0
    with httpx.Client(timeout=10) as client:
        for ask, count in scene.holds:
            body = {**ask.body, "deliver": "direct", "ack_ms": 86_400_000}
            for _ in range(count):
                answer = client.post(f"{url}/v1/jobs", json=body, headers={"x-fleet-tenant": ask.tenant})
                held += answer.status_code == 201
    return held


def run(scene: Scene, options: argparse.Namespace, urls: list[str], server: EmbeddedServer) -> int:
    """One race on a new server that has replicas; answers how many kinds of violation were seen."""
    client = redis.Redis.from_url(server.url)
    if scene.pools:
        fcall(client, "pools_apply", 0, json.dumps({"pools": scene.pools}))
    for tenant, most in scene.quotas.items():
        fcall(client, "tenant_put", tenant, json.dumps({"concurrent_jobs": most}))
    for name, fields in scene.nodes.items():
        register(client, name, fields)
    for url in urls:
        wait_known(url, len(scene.nodes))
    held, started = hold(urls[0], scene), time.monotonic()
    slots = sum(int(str(fields["slots"])) for fields in scene.nodes.values())
    print(f"{scene.title}: {held} of {slots} slots are held throughout")
    over = multiprocessing.Event()
    aside = [_start(audit, server.url, scene, over)]
    if scene.meddle is not None:
        aside.append(_start(scene.meddle, server.url, over))
    contenders = [_start(_contend, scene, urls, options.claims // options.clients) for _ in range(options.clients)]
    total: Counts = Counts()
    for out in contenders:
        pid, seen = out.get(timeout=1_800)
        print(f"  client pid {pid}: {seen['claims']:,} claims, {seen['placed']:,} placed")
        total.update(seen)
    over.set()
    for out in aside:
        total.update(out.get(timeout=60)[1])
    for tenant in scene.quotas:
        total["bad:quota_not_reached"] += total[f"saw {tenant} with its whole quota"] == 0
    judged = read_audit(client)
    total.update({name: count for name, count in judged.items() if name.startswith("bad:")})
    # a judge that saw less than was placed is none
    total["bad:not_judged"] = abs(judged.get("placed", 0) - total["placed"] - held)
    kinds = {name.removeprefix("bad:"): n for name, n in sorted(total.items()) if name.startswith("bad:") and n}
    print(f"  in {time.monotonic() - started:.0f} s: { {n: c for n, c in sorted(total.items()) if n[:4] != 'bad:'} }")
    print(f"  judged in the deciding step: { {n: c for n, c in judged.items() if n[:4] != 'bad:'} }")
    print(f"  violations by kind: {kinds or 'none'}")
    return len(kinds)


@contextmanager
def staged(replicas: int) -> Iterator[tuple[list[str], EmbeddedServer]]:
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    print(f"server: {choice.describe()}")
    with EmbeddedServer(choice) as server:
        client = redis.Redis(port=server.port)
        client.execute_command("FUNCTION", "LOAD", "REPLACE", audited_library())
        ports = [free_port() for _ in range(replicas)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        argv = [sys.executable, "-m", "scheduler.cli.main", "serve", "--port"]
        running = [spawn_bound([*argv, str(port)], environ={**os.environ, "REDIS_URL": server.url}) for port in ports]
        try:
            asyncio.run(wait_ready(urls, 30))
            print(f"replicas: pids {[process.pid for process in running]}")
            yield urls, server
        finally:
            stop(running)
