"""How long a killed node is still claimed, and how long its jobs are without a node that runs them.

`python -m tests.bench.dead_nodes [--kills 100]`: real agent processes with the default heartbeat (1 s) and TTL (3 s),
and a real replica. Several are killed at once, with running jobs, each at a random moment between two heartbeats. For
each the time is taken from the SIGKILL until the last claim that Redis still placed on it was answered, and until the
last of its jobs ran on another node. Records, asserts nothing.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import redis

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.store.library import read_library

P = "fleet:{0}"
AT_ONCE, SURVIVORS, JOBS_EACH = 6, 8, 2
PROBE_S, POLL_S, PATIENCE_S = 0.05, 0.02, 15.0
_BIN = Path(sys.executable).parent
_HANDLER = "import asyncio\n\nasync def hold(job):\n    await asyncio.sleep(3600)\n"


@dataclass(frozen=True, slots=True)
class Death:
    """One kill: seconds from it to the last claim on the node, and until its last job ran elsewhere."""

    last_claim_s: float
    elsewhere_s: float


class Fleet:
    """Agent processes on one server, each with a token of its own besides the one that all offer."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        self.client = redis.Redis(port=server.port, socket_timeout=10)
        self._url, self._folder = server.url, folder
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        self._count = 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "holding.py").write_text(_HANDLER, "utf-8")

    def replica(self) -> str:
        port = free_port()
        argv: list[str | Path] = [_BIN / "fleet", "serve", "--redis-url", self._url, "--port", str(port)]
        self.processes[f"replica-{port}"] = spawn_bound(argv, environ=self._environ)
        return f"http://127.0.0.1:{port}"

    def start(self, count: int) -> list[str]:
        """So many more nodes; answers their ids. They are not registered yet."""
        names: list[str] = []
        for _ in range(count):
            self._count += 1
            names.append(name := f"n{self._count}")
            words = {"id": name, "slots": "8", "capabilities": f"work only:{name}", "handler": "holding:hold"}
            limits = {"cpu-max": "100", "gpu-max": "100", "mem-max": "100", "redis-url": self._url}
            options = [word for key, value in (words | limits).items() for word in (f"--{key}", value)]
            argv: list[str | Path] = [_BIN / "fleet", "node", "run", *options]
            self.processes[name] = spawn_bound(
                argv, environ=self._environ, cwd=self._folder, stderr=subprocess.DEVNULL
            )
        return names

    async def registered(self, names: list[str]) -> None:
        async with asyncio.timeout(60):
            while not all(self.client.hget(f"{P}:node:{name}", "state") == b"ready" for name in names):
                await asyncio.sleep(0.05)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def job(self, job: str) -> tuple[str, str]:
        """Its state and its node."""
        values = cast("list[bytes | None]", self.client.hmget(f"{P}:job:{job}", ["state", "node"]))
        return (values[0] or b"").decode(), (values[1] or b"").decode()

    def close(self) -> None:
        stop(list(self.processes.values()))
        self.client.close()


@contextmanager
def fleet() -> Iterator[Fleet]:
    choice = choose_server({name: value for name, value in os.environ.items() if name != "REDIS_URL"})[0]
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(choice) as server:
        opened = Fleet(server, Path(folder))
        opened.client.execute_command("FUNCTION", "LOAD", read_library().code)
        try:
            yield opened
        finally:
            opened.close()


async def _place(http: httpx.AsyncClient, token: str, **more: object) -> dict[str, Any] | None:
    answer = await http.post("/v1/jobs", json={"requires": [token], **more})
    return answer.json()["job"] if answer.status_code == 201 else None


async def _until(fleet: Fleet, jobs: list[str], name: str, *, here: bool) -> float:
    """Until each job runs on this node, or on another; answers when that was."""
    async with asyncio.timeout(PATIENCE_S):
        for job in jobs:
            while (held := fleet.job(job))[0] != "running" or (held[1] == name) != here:
                await asyncio.sleep(POLL_S)
    return time.monotonic()


async def _die(fleet: Fleet, http: httpx.AsyncClient, name: str) -> Death:
    made = [await _place(http, f"only:{name}") for _ in range(JOBS_EACH)]
    held = [str(job["id"]) for job in made if job]
    assert len(held) == JOBS_EACH, f"{name} took no jobs"
    # only what all offer can be taken up by another: the token of its own brought the job here
    for job in held:
        fleet.client.hset(f"{P}:job:{job}", "demand", '{"any_of":[["work"]]}')
    await _until(fleet, held, name, here=True)
    await asyncio.sleep(random.random())
    fleet.kill(name)
    killed = time.monotonic()
    elsewhere = asyncio.create_task(_until(fleet, held, name, here=False))
    last_claim = killed
    # past its loss too: a claim then would be the fault that is looked for
    while not elsewhere.done() or time.monotonic() < elsewhere.result() + 0.5:
        if (claimed := await _place(http, f"only:{name}", deliver="direct")) is not None:
            last_claim = time.monotonic()
            body = {"fence": claimed["fence"], "outcome": "succeeded"}
            await http.post(f"/v1/jobs/{claimed['id']}/finish", json=body)
        await asyncio.sleep(PROBE_S)
    await asyncio.gather(*(http.post(f"/v1/jobs/{job}/cancel") for job in held))
    return Death(last_claim - killed, elsewhere.result() - killed)


async def measure(kills: int, at_once: int = AT_ONCE, survivors: int = SURVIVORS) -> list[Death]:
    """Kill so many nodes, at_once at a time, never the last `survivors`."""
    deaths: list[Death] = []
    with fleet() as running:
        url = running.replica()
        lasting, doomed = running.start(survivors), running.start(min(at_once, kills))
        await wait_ready([url], 60)
        await running.registered(lasting)
        async with httpx.AsyncClient(base_url=url, timeout=10) as http:
            while doomed:
                await running.registered(doomed)
                dying = asyncio.gather(*(_die(running, http, name) for name in doomed))
                deaths += await dying
                doomed = running.start(min(at_once, kills - len(deaths)))
    return deaths


def _row(what: str, values: list[float]) -> str:
    ordered = sorted(values)
    p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    return f"{what:<42} p50 {statistics.median(ordered):5.2f} s   p99 {p99:5.2f} s   max {ordered[-1]:5.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    started = time.monotonic()
    deaths = asyncio.run(measure(kills))
    print(f"{len(deaths)} nodes killed in {time.monotonic() - started:.0f} s, heartbeat 1 s, TTL 3 s")
    print(_row("last claim on it after the kill", [death.last_claim_s for death in deaths]))
    print(_row("its jobs run elsewhere after the kill", [death.elsewhere_s for death in deaths]))


if __name__ == "__main__":
    main()
