"""Redis that goes away, comes back as it was, empty, or older, and what is true afterwards."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis
from starlette.applications import Starlette

from scheduler.agent import Agent
from scheduler.dev.server import EmbeddedServer
from scheduler.domain.ids import NodeId
from scheduler.settings import Settings
from scheduler.store.library import read_library
from tests.integration.agent.conftest import Gated, P, node_config, until
from tests.integration.http.conftest import ready, running

AOF = ("--appendonly", "yes", "--appendfsync", "always")
TTL_MS, HEARTBEAT_MS, OUTAGE_S = 3_000, 1_000, 4.0


@dataclass
class Scene:
    """A server of the test's own and a replica on it, in this process; nodes come as they are asked for."""

    server: EmbeddedServer
    app: Starlette
    http: httpx.AsyncClient
    stack: AsyncExitStack

    def __post_init__(self) -> None:
        self.client = redis.Redis(port=self.server.port, socket_timeout=10)
        self.stack.callback(self.client.close)

    def load(self) -> None:
        self.client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)

    async def node(self, name: str, handler: Gated, **fields: Any) -> Agent:
        """An agent with the default heartbeat and TTL; it is abandoned at the end, not drained."""
        config = node_config(id=NodeId(name), heartbeat_ms=HEARTBEAT_MS, ttl_ms=TTL_MS, drain_ms=0, **fields)
        agent = Agent(config, handler, self.server.url)
        task = asyncio.create_task(agent.run())

        async def leave() -> None:
            handler.go.set()
            agent.leave()
            await asyncio.wait([task], timeout=20)
            assert task.done(), f"{name} does not leave"

        self.stack.push_async_callback(leave)
        await until(lambda: agent.incarnation is not None)
        return agent

    async def place(self, job: str, requires: str = "work", **more: object) -> httpx.Response:
        return await self.http.post("/v1/jobs", json={"requires": [requires], "id": job, **more})

    def job(self, job: str) -> dict[str, str]:
        raw = cast("dict[bytes, bytes]", self.client.hgetall(f"{P}:job:default:{job}"))
        return {key.decode(): value.decode() for key, value in raw.items()}

    def beat_at_ms(self, agent: Agent) -> float:
        return float(self.client.hget(f"{P}:node:{agent.config.id}", "heartbeat_at_ms") or 0)

    def kinds(self) -> list[str]:
        entries = cast("list[Any]", self.client.xrange(f"{P}:events"))
        return [fields[b"kind"].decode() for _, fields in entries]

    async def restarted(self) -> None:
        await asyncio.to_thread(self.server.start)

    def snapshot_is_right(self) -> bool:
        """The replica's snapshot says of every node what Redis says."""
        snapshot = self.app.state.engine.first.mirror.snapshot
        held = {node.id: (node.state, node.structure) for node in snapshot.nodes if node is not None}
        names = [key.decode().rpartition(":")[2] for key in cast("list[bytes]", self.client.keys(f"{P}:node:*"))]
        true: dict[str, tuple[str, str]] = {}
        for name in names:
            values = cast("list[bytes | None]", self.client.hmget(f"{P}:node:{name}", ["state", "structure"]))
            if values[0] is not None and values[1] is not None:
                true[name] = (values[0].decode(), values[1].decode())
        return held == true and snapshot.version == int(cast("bytes", self.client.hget(P, "version")))


@asynccontextmanager
async def scene(server: EmbeddedServer, **settings: Any) -> AsyncIterator[Scene]:
    async with running(Settings(redis_url=server.url, **settings)) as (app, http), AsyncExitStack() as stack:
        opened = Scene(server, app, http, stack)
        opened.load()
        await ready(app)
        yield opened


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_outage_longer_than_the_ttl_loses_no_node(
    fresh_server: Callable[..., EmbeddedServer], how: str
) -> None:
    gated = Gated()
    async with scene(fresh_server(*AOF)) as on:
        # nine: one more, and a mass lapse would be doubted and hide a loss
        agents = [await on.node(f"n{number}", gated, slots=1) for number in range(9)]
        for number in range(9):
            assert (await on.place(f"j{number}")).status_code == 201
        await until(lambda: len(gated.begun) == 9)
        before = [agent.incarnation for agent in agents]
        if how == "stopped":
            os.kill(on.server.pid, signal.SIGSTOP)
            await asyncio.sleep(OUTAGE_S)
            os.kill(on.server.pid, signal.SIGCONT)
        else:
            on.server.kill()
            await asyncio.sleep(OUTAGE_S)
            await on.restarted()
        back = time.time() * 1000
        first: dict[str, float] = {}
        async with asyncio.timeout(HEARTBEAT_MS / 1000):
            while len(first) < len(agents):
                for agent in agents:
                    if (beat := on.beat_at_ms(agent)) >= back - 100:
                        first.setdefault(agent.config.id, beat - back)
                await asyncio.sleep(0.01)
        # within half a period and a little: a second of the outage counts, and one may have passed before it
        assert max(first.values()) <= HEARTBEAT_MS / 2 + 250
        await until(lambda: min(map(on.beat_at_ms, agents)) > back + TTL_MS / 2)
        assert "node_lost" not in on.kinds()
        assert [agent.incarnation for agent in agents] == before
        assert {on.job(f"j{number}")["attempt"] for number in range(9)} == {"1"}
        assert gated.cancelled == []
        gated.go.set()
        await until(lambda: all(on.job(f"j{number}")["state"] == "succeeded" for number in range(9)))


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_a_crash_of_redis_with_an_aof_loses_nothing_that_was_acknowledged(
    fresh_server: Callable[..., EmbeddedServer], fsync: str
) -> None:
    async with scene(fresh_server("--appendonly", "yes", "--appendfsync", fsync), deadline_ms=500) as on:
        await on.http.put("/v1/nodes/n1", json={
            "endpoint": "http://n1", "slots": 100_000, "capabilities": ["work"], "ttl_ms": 60_000,
        })  # fmt: skip
        acknowledged: dict[str, dict[str, Any]] = {}

        async def send(worker: int) -> None:
            for number in range(100_000):
                answer = await on.place(f"j{worker}-{number}", deliver="direct")
                if answer.status_code != 201:
                    return
                acknowledged[f"j{worker}-{number}"] = answer.json()["job"]

        sending = asyncio.gather(*(send(worker) for worker in range(8)))
        await until(lambda: len(acknowledged) >= 200)
        on.server.kill()
        await sending
        await on.restarted()
        await until(lambda: on.app.state.engine.obstacle() is None)
        for job, told in acknowledged.items():
            held = on.job(job)
            assert (held["node"], int(held["fence"]), held["state"]) == ("n1", told["fence"], "claimed")
        leases = {lease.decode() for lease in cast("list[bytes]", on.client.zrange(f"{P}:node:n1:leases", 0, -1))}
        # what was not acknowledged may have been made; never the other way round
        assert {f"default:{job}" for job in acknowledged} <= leases
        assert len(leases) <= len(acknowledged) + 8
        found = await on.place(next(iter(acknowledged)), deliver="direct")
        assert found.status_code == 200


async def test_after_a_restart_without_data_the_replica_says_what_is_missing_and_nodes_come_back_by_themselves(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    gated = Gated()
    async with scene(fresh_server(), deadline_ms=500) as on:
        agent = await on.node("n1", gated)
        first = agent.incarnation
        placed = (await on.place("old")).json()["job"]
        await until(lambda: gated.begun)
        on.server.kill()
        await on.restarted()
        end = time.monotonic() + 10
        while "fleet library load" not in (await on.http.get("/readyz")).text:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        started = time.monotonic()
        refused = await on.place("new")
        assert (refused.status_code, refused.json()["code"]) == (503, "library_mismatch")
        assert time.monotonic() - started <= 1
        on.load()
        loaded = time.monotonic()
        await until(lambda: agent.incarnation not in {None, first})
        assert time.monotonic() - loaded <= TTL_MS / 1000
        await until(lambda: gated.cancelled)
        await ready(on.app)
        assert (await on.http.get("/v1/jobs/default:old")).status_code == 404
        finish = {"fence": placed["fence"], "outcome": "succeeded"}
        assert (await on.http.post("/v1/jobs/default:old/finish", json=finish)).status_code == 404
        again = await on.place("old")
        assert again.status_code == 201
        assert again.json()["job"]["fence"] > placed["fence"]


async def test_a_server_that_forgot_the_last_while_fences_what_came_after_and_the_snapshot_follows_it(
    fresh_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    gated = Gated()
    async with scene(fresh_server(*AOF)) as on:
        known = await on.node("known", gated)
        kept = (await on.place("kept")).json()["job"]
        await until(lambda: len(gated.begun) == 1)
        shutil.copytree(on.server.folder, tmp_path / "then")
        forgotten = (await on.place("forgotten")).json()["job"]
        await until(lambda: len(gated.begun) == 2)
        late = await on.node("late", gated, capabilities=("late",))
        was = late.incarnation
        await on.place("there", "late")
        await until(lambda: len(gated.begun) == 3)
        await until(on.snapshot_is_right)
        on.server.kill()
        shutil.rmtree(on.server.folder)
        shutil.copytree(tmp_path / "then", on.server.folder)
        await on.restarted()
        # each is stopped under its own fence; what Redis still knows goes on
        await until(lambda: {job.id for job in gated.cancelled} == {"default:forgotten", "default:there"})
        await until(lambda: late.incarnation not in {None, was})
        assert known.incarnation is not None
        assert was is not None
        assert late.incarnation is not None
        assert late.incarnation > was
        await until(on.snapshot_is_right)
        assert on.job("kept")["fence"] == str(kept["fence"])
        assert on.job("forgotten") == {}
        again = (await on.place("forgotten")).json()["job"]
        assert again["fence"] > forgotten["fence"]
        stale = await on.http.post(
            "/v1/jobs/default:forgotten/finish", json={"fence": forgotten["fence"], "outcome": "succeeded"}
        )
        assert stale.status_code == 409
        gated.go.set()
        await until(lambda: on.job("kept")["state"] == on.job("forgotten")["state"] == "succeeded")
        assert on.client.zcard(f"{P}:leases") == 0


async def test_a_server_that_cannot_save_refuses_claims_in_time_and_reads_go_on_until_it_can(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    async with scene(fresh_server("--save", "3600 1000000"), deadline_ms=500) as on:
        agent = await on.node("n1", Gated())
        before = agent.incarnation
        assert (await on.place("before")).status_code == 201
        # a folder under the snapshot's name: saving fails as on a full disk
        blocker = on.server.folder / "dump.rdb"
        blocker.mkdir()
        with suppress(redis.ResponseError):
            on.client.bgsave()
        await until(lambda: on.client.info("persistence")["rdb_last_bgsave_status"] == "err")
        started = time.monotonic()
        refused = await on.place("meanwhile")
        assert time.monotonic() - started <= 1
        assert (refused.status_code, refused.json()["code"]) == (503, "server_unavailable")
        assert "MISCONF" in refused.json()["detail"]
        for path in ("/v1/jobs/default:before", "/v1/nodes/n1", "/v1/cluster", "/readyz"):
            assert (await on.http.get(path)).status_code == 200, path
        assert on.job("meanwhile") == {}
        # nobody's clock runs while nothing can be written
        await asyncio.sleep(TTL_MS / 1000)
        blocker.rmdir()
        on.client.bgsave()
        await until(lambda: on.client.info("persistence")["rdb_last_bgsave_status"] == "ok")
        assert (await on.place("after")).status_code == 201
        assert agent.incarnation == before
        assert "node_lost" not in on.kinds()


async def test_on_a_read_only_replica_it_is_not_ready_and_answers_in_time_with_a_clear_word(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    primary, copy = fresh_server(), fresh_server()
    async with scene(copy, deadline_ms=500) as on:
        on.client.replicaof("127.0.0.1", primary.port)
        with redis.Redis(port=primary.port) as client:
            client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        end = time.monotonic() + 20
        while "REDIS_URL must name the primary" not in (told := await on.http.get("/readyz")).text:
            assert time.monotonic() < end, told.text
            await asyncio.sleep(0.02)
        assert told.status_code == 503
        started = time.monotonic()
        refused = await on.place("j1")
        assert time.monotonic() - started <= 1
        assert refused.status_code == 503
        assert "read only replica" in refused.json()["detail"]
        on.client.replicaof("NO", "ONE")
        await ready(on.app)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes of the test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(argv, check=False).returncode:
        pytest.skip("a file system can be mounted by root only, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_under_the_aof_refuses_claims_in_time_reads_go_on_and_it_recovers(
    fresh_server: Callable[..., EmbeddedServer], small_disk: Path
) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(small_disk))
    async with scene(server, deadline_ms=500) as on:
        agent = await on.node("n1", Gated(), slots=1_000)
        before = agent.incarnation
        assert (await on.place("before")).status_code == 201
        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        end, number = time.monotonic() + 20, 0
        while (refused := await on.place(f"j{number}")).status_code != 503:
            assert time.monotonic() < end
            number += 1
        assert "MISCONF" in refused.json()["detail"]
        started = time.monotonic()
        assert (await on.place("meanwhile")).status_code == 503
        assert time.monotonic() - started <= 1
        assert (await on.http.get("/v1/jobs/default:before")).status_code == 200
        ballast.unlink()
        end, number = time.monotonic() + 10, 0
        while (await on.place(f"after{number}")).status_code != 201:
            assert time.monotonic() < end
            number += 1
        assert agent.incarnation == before
        on.server.kill()
        await on.restarted()
        assert on.job("before")["state"] in {"claimed", "running"}
