"""Processes contend for the last slots of a nearly full fleet: nothing is oversold, nothing refused in vain.

Run by `make race`. Real replicas over HTTP, real client processes, one server; prints what it saw and exits with
status 1 on a violation. An auditor reads all nodes in one atomic step as fast as it can, all the while.
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from multiprocessing.synchronize import Event as EventType
from typing import Any

import aiohttp
import httpx
import redis

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.store.library import read_library

P = "fleet:{0}"
NODES, SLOTS, HELD_FOREVER = 20, 5, 92
# One script is one instant: the lease count of every node, and whether it is in P:free.
AUDIT = """
local seen = {}
for i = 1, #ARGV do
  local leases = redis.call('ZCARD', KEYS[1] .. ':node:' .. ARGV[i] .. ':leases')
  local free = redis.call('SISMEMBER', KEYS[1] .. ':free', ARGV[i])
  seen[i] = leases * 2 + free
end
return seen
"""


def register(client: redis.Redis) -> list[str]:
    names = [f"n{i:02}" for i in range(NODES)]
    for name in names:
        fields = ["endpoint", f"http://{name}", "slots", SLOTS, "capabilities", "gpu", "ttl_ms", 3_600_000]
        client.execute_command("FCALL", "fleet1_node_register", 1, P, name, *fields)
    return names


def audit(url: str, names: list[str], over: EventType, out: "multiprocessing.Queue[tuple[int, int, int]]") -> None:
    """Worst lease count of a node, and how often P:free disagreed with the leases."""
    client = redis.Redis.from_url(url)
    script = client.register_script(AUDIT)
    worst = wrong = reads = 0
    while not over.is_set():
        for value in script(keys=[P], args=names):
            leases, free = divmod(value, 2)
            worst = max(worst, leases)
            wrong += free != (leases < SLOTS)
        reads += 1
        time.sleep(0.001)
    out.put((worst, wrong, reads))


async def contend(urls: list[str], budget: int, seed: int) -> Counter[str]:
    """Claim until the budget of claims is used; what was placed is finished at once, so slots keep changing hands."""
    rng, seen, used = random.Random(seed), Counter[str](), 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:

        async def post(url: str, body: dict[str, object]) -> tuple[int, Any]:
            async with client.post(url, json=body) as answer:
                return answer.status, await answer.json(content_type=None)

        async def one() -> None:
            nonlocal used
            while used < budget:
                used += 1
                url = rng.choice(urls)
                status, body = await post(f"{url}/v1/jobs", {"requires": ["gpu"], "deliver": "direct"})
                seen[f"{status}:{body.get('class', '')}"] += 1
                seen["conflicts"] += body.get("placement", {}).get("conflict", False)
                if status == 201:
                    job = body["job"]
                    await asyncio.sleep(rng.random() * 0.005)
                    finish = {"fence": job["fence"], "outcome": "succeeded"}
                    ended, _ = await post(f"{url}/v1/jobs/{job['id']}/finish", finish)
                    seen[f"finish:{ended}"] += 1

        await asyncio.gather(*(one() for _ in range(6)))
    return seen


def contender(urls: list[str], budget: int, out: "multiprocessing.Queue[tuple[int, Counter[str]]]") -> None:
    out.put((os.getpid(), asyncio.run(contend(urls, budget, os.getpid()))))


def refusals_in_vain(url: str) -> int:
    """Refusals that Redis counted while an eligible slot was free (the counter of the audit switch)."""
    client = redis.Redis.from_url(url)
    return int(client.hget(f"{P}:audit", "refused_in_vain") or 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=100_000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    print(f"server: {choice.describe()}")
    with EmbeddedServer(choice) as server:
        client = redis.Redis(port=server.port)
        client.execute_command("FUNCTION", "LOAD", "REPLACE", audited_library())
        names = register(client)
        ports = [free_port() for _ in range(options.replicas)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        argv = [sys.executable, "-m", "scheduler.cli.main", "serve", "--port"]
        replicas = [spawn_bound([*argv, str(p)], environ={**os.environ, "REDIS_URL": server.url}) for p in ports]
        try:
            asyncio.run(wait_ready(urls, 30))
            return run(options.claims, options.clients, urls, server.url, names, [r.pid for r in replicas])
        finally:
            stop(replicas)


def audited_library() -> str:
    """The real library, with one line more where job_claim refuses: it counts refusals while a slot is free.

    Every demand of this race is met by every node, so "an eligible slot is free" is "P:free is not empty and the
    leases agree"; both are read in the very step that refuses.
    """
    code = read_library().code
    line = "  return reply('refused', refusal_class(S, claim, order), claim.loads, S.epoch)"
    if code.count(line) != 1:
        raise SystemExit("the audit does not find the line that refuses")
    counted = f"""
  for i = 0, {NODES - 1} do
    if redis.call('ZCARD', leases_key(S.P, string.format('n%02d', i))) < {SLOTS} then
      redis.call('HINCRBY', S.P .. ':audit', 'refused_in_vain', 1)
    end
  end
  redis.call('HINCRBY', S.P .. ':audit', 'refused', 1)
"""
    return code.replace(line, counted + line)


def run(claims: int, clients: int, urls: list[str], url: str, names: list[str], replica_pids: list[int]) -> int:
    started = time.monotonic()
    held = hold(urls[0])
    over = multiprocessing.Event()
    audits: multiprocessing.Queue[tuple[int, int, int]] = multiprocessing.Queue()
    results: multiprocessing.Queue[tuple[int, Counter[str]]] = multiprocessing.Queue()
    auditor = multiprocessing.Process(target=audit, args=(url, names, over, audits), daemon=True)
    auditor.start()
    contenders = [
        multiprocessing.Process(target=contender, args=(urls, claims // clients, results), daemon=True)
        for _ in range(clients)
    ]
    for process in contenders:
        process.start()
    total: Counter[str] = Counter()
    print(f"replicas: pids {replica_pids}; {held} of {NODES * SLOTS} slots are held throughout")
    for _ in contenders:
        pid, seen = results.get(timeout=1_200)
        made = sum(n for key, n in seen.items() if ":" in key and not key.startswith("finish"))
        print(f"client pid {pid}: {made:,} claims, {seen['201:']:,} placed")
        total += seen
    over.set()
    worst, wrong, reads = audits.get(timeout=30)
    vain = refusals_in_vain(url)
    made = sum(n for key, n in total.items() if ":" in key and not key.startswith("finish"))
    failed = sum(
        n for key, n in total.items() if key[:4] not in {"201:", "503:"} and key[:6] != "finish" and ":" in key
    )
    unfinished = total["201:"] - total["finish:200"]
    print(f"{made:,} claims in {time.monotonic() - started:.0f} s: {dict(total)}")
    print(f"worst lease count of a node: {worst} of {SLOTS}, in {reads:,} atomic reads; P:free wrong {wrong} times")
    print(f"refusals while an eligible slot was free: {vain}")
    bad = (worst > SLOTS, vain > 0, wrong > 0, failed > 0, unfinished > 0)
    print(f"violations: {sum(bad)}")
    return int(any(bad))


def hold(url: str) -> int:
    """Fill most of the fleet with leases that outlive the race."""
    with httpx.Client(timeout=10) as client:
        body = {"requires": ["gpu"], "deliver": "direct", "ack_ms": 86_400_000}
        return sum(client.post(f"{url}/v1/jobs", json=body).status_code == 201 for _ in range(HELD_FOREVER))


if __name__ == "__main__":
    sys.exit(main())
