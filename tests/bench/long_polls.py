"""What many long polls cost, and how soon each is woken: real replicas, one connection for each waiter.

Jobs are finished in Redis itself at a bounded rate; the time of a wake is from just before the finish is sent
until the answer is read. Records, asserts nothing: `python -m tests.bench.long_polls [--waiters 10000] [--rate 500]`.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import msgspec
import psutil
import redis

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.store.library import read_library

P = "fleet:{0}"
CONNECTING_MAX = 64
SETTLED_S = 3.0
WAIT_MS = 60_000
GET = "GET /v1/jobs/{job}?wait_ms={wait_ms} HTTP/1.1\r\nhost: fleet\r\n\r\n"


def raise_file_limit(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))


def place(client: redis.Redis, urls: list[str], count: int) -> dict[str, str]:
    """So many jobs on one wide node, placed through a replica; job to fence."""
    fields = ("endpoint", "http://n1", "slots", count, "capabilities", "a", "ttl_ms", 3_600_000)
    client.execute_command("FCALL", "fleet1_node_register", 1, P, "n1", *fields)
    import httpx

    fences: dict[str, str] = {}
    body = {"requires": ["a"], "deliver": "direct", "ack_ms": 600_000}
    with httpx.Client(base_url=urls[0], timeout=60) as http:
        while len(fences) < count:
            asked = [body] * min(500, count - len(fences))
            for outcome in http.post("/v1/jobs:batch", json={"jobs": asked}).json()["jobs"]:
                if outcome["status"] == 201:
                    fences[outcome["job"]["id"]] = str(outcome["job"]["fence"])
    return fences


class Waiters:
    """One connection and one long poll for each job; when each was answered, and with what state."""

    def __init__(self) -> None:
        self.woken: dict[str, float] = {}
        self.states: Counter[str] = Counter()
        self.sent = 0
        self._room = asyncio.Semaphore(CONNECTING_MAX)

    async def wait(self, job: str, port: int) -> None:
        async with self._room:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET.format(job=job, wait_ms=WAIT_MS).encode())
            self.sent += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.woken[job] = time.perf_counter()
            length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"content-length:"))
            answer = msgspec.json.decode(await reader.readexactly(length))
            self.states[answer["job"]["state"] if "job" in answer else str(answer["status"])] += 1
        except (OSError, asyncio.IncompleteReadError):
            self.states["broken"] += 1
        finally:
            writer.close()


async def finish(url: str, fences: dict[str, str], rate: float) -> dict[str, float]:
    """Finish each job, evenly, 10 ms at a time; when each was sent."""
    from scheduler.store.client import connect

    client, sent = connect(url, timeout_ms=10_000), dict[str, float]()
    jobs, started = list(fences), time.perf_counter()
    while len(sent) < len(jobs):
        due = int((time.perf_counter() - started) * rate)
        page = jobs[len(sent) : min(due, len(jobs))]
        if page:
            async with client.pipeline(transaction=False) as pipe:
                for job in page:
                    pipe.execute_command("FCALL", "fleet1_job_finish", 1, P, job, fences[job], "succeeded", '"r"')
                now = time.perf_counter()
                sent.update(dict.fromkeys(page, now))
                await pipe.execute()
        await asyncio.sleep(0.01)
    await client.aclose()
    return sent


def calls(client: redis.Redis) -> Counter[str]:
    stats: Any = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()})


def rss(children: list["subprocess.Popen[bytes]"]) -> list[float]:
    return [psutil.Process(child.pid).memory_info().rss / 2**20 for child in children]


def cpu(children: list["subprocess.Popen[bytes]"]) -> float:
    return sum(sum(psutil.Process(child.pid).cpu_times()[:2]) for child in children)


def told(name: str, counted: Counter[str], seconds: float) -> None:
    most = ", ".join(f"{command} {n}" for command, n in counted.most_common(8))
    print(f"{name}: {counted.total()} commands in {seconds:.1f} s ({most})")


async def measure(server: EmbeddedServer, client: redis.Redis, ports: list[int], options: argparse.Namespace) -> None:
    replicas: list[subprocess.Popen[bytes]] = options.children
    fences = place(client, [f"http://127.0.0.1:{port}" for port in ports], options.waiters)
    before, waiters, started = rss(replicas), Waiters(), time.perf_counter()
    tasks = [asyncio.create_task(waiters.wait(job, ports[i % len(ports)])) for i, job in enumerate(fences)]
    while waiters.sent < len(tasks):
        await asyncio.sleep(0.05)
    await asyncio.sleep(SETTLED_S)
    print(f"{len(tasks)} waiters on {len(ports)} replicas, connected in {time.perf_counter() - started:.1f} s")
    held = rss(replicas)
    print(
        "RSS of each replica, MiB, before and with its waiters:",
        *(f"{b:.0f} -> {h:.0f}" for b, h in zip(before, held, strict=True)),
    )
    first, at = calls(client), time.perf_counter()
    await asyncio.sleep(SETTLED_S)
    told("waiting, nothing ends", calls(client) - first, time.perf_counter() - at)
    first, at, used = calls(client), time.perf_counter(), cpu(replicas)
    sent = await finish(server.url, fences, options.rate)
    await asyncio.wait(tasks, timeout=WAIT_MS / 1000)
    seconds = time.perf_counter() - at
    told(f"{len(sent)} jobs finished at {options.rate:.0f}/s", calls(client) - first, seconds)
    print(f"CPU of the replicas meanwhile: {(cpu(replicas) - used) / seconds:.2f} cores")
    late = sorted((waiters.woken[job] - sent[job]) * 1000 for job in sent if job in waiters.woken)
    p50, p99, most = late[len(late) // 2], late[int(len(late) * 0.99)], late[-1]
    print(f"finish to wake, ms: p50 {p50:.1f}  p99 {p99:.1f}  max {most:.1f}   answers {dict(waiters.states)}")
    print("RSS of each replica after, MiB:", *(f"{now:.0f}" for now in rss(replicas)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiters", type=int, default=10_000)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rate", type=float, default=500, help="jobs that end in a second")
    options = parser.parse_args()
    raise_file_limit(options.waiters + 1_000)
    options.children = []
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    choice, _ = choose_server(environ)
    try:
        with EmbeddedServer(choice) as server, redis.Redis(port=server.port) as client:
            client.execute_command("FUNCTION", "LOAD", read_library().code)
            ports = [free_port() for _ in range(options.replicas)]
            for port in ports:
                argv = [sys.executable, "-m", "scheduler.cli.main", "serve", "--redis-url", server.url]
                options.children.append(spawn_bound([*argv, "--port", str(port)], environ=environ))
            asyncio.run(wait_ready([f"http://127.0.0.1:{port}" for port in ports], 30))
            print(f"server: {choice.describe()}")
            asyncio.run(measure(server, client, ports, options))
    finally:
        stop(options.children)
    return 0


if __name__ == "__main__":
    sys.exit(main())
