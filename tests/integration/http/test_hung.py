"""A Redis that hangs, answers late, loses an answer, or is full: answers stay bounded and nothing piles up."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.settings import Settings
from scheduler.store.library import read_library
from tests.integration.agent.lossy import relay_to
from tests.integration.http.conftest import Speaker, ready, running
from tests.sharded import Shards

P = "fleet:{0}"
RELAY = "a relay stands in front of one server"
DEADLINE_MS, A_BIT_S = 500, 0.75


def limited(url: str, deadline_ms: int = DEADLINE_MS) -> Settings:
    return Settings(redis_url=url, deadline_ms=deadline_ms, redis_timeout_ms=deadline_ms)


class Slow:
    """A relay whose answers come `delay_s` late; it counts the connections that are open through it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.delay_s = 0.0
        self.open = 0
        self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.open += 1
        self.most = max(self.most, self.open)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
            try:
                while chunk := await source.read(65_536):
                    if late and self.delay_s:
                        await asyncio.sleep(self.delay_s)
                    sink.write(chunk)
                    await sink.drain()
            except OSError:
                pass
            finally:
                writer.close()
                far_writer.close()

        await asyncio.gather(pump(reader, far_writer, late=False), pump(far_reader, writer, late=True))
        self.open -= 1


@asynccontextmanager
async def slow_to(port: int) -> AsyncIterator[tuple[Slow, str]]:
    slow = Slow(port)
    listening = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    try:
        yield slow, f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        slow.delay_s = 0
        listening.close()
        async with asyncio.timeout(10):
            while slow.open:
                await asyncio.sleep(0.01)


async def burst(http: httpx.AsyncClient, name: str, count: int) -> tuple[Counter[int], float]:
    """So many requests at once: their statuses, and how long the slowest took."""

    async def one(number: int) -> tuple[int, float]:
        started = time.monotonic()
        body = {"requires": ["work"], "deliver": "direct", "id": f"{name}-{number}"}
        answer = await http.post("/v1/jobs", json=body)
        return answer.status_code, time.monotonic() - started

    told = await asyncio.gather(*(one(number) for number in range(count)))
    return Counter(status for status, _ in told), max(seconds for _, seconds in told)


async def recovers(http: httpx.AsyncClient, name: str) -> None:
    end, number = time.monotonic() + 10, 0
    while (told := await burst(http, f"{name}{number}", 1))[0] != Counter({201: 1}):
        assert time.monotonic() < end, told
        number += 1
        await asyncio.sleep(0.05)


async def test_a_hung_server_is_answered_503_in_time_nothing_piles_up_and_it_recovers(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
    async with running(limited(server.url)) as (app, http):
        await ready(app)
        await Speaker(http, packed=False, app=app).register("n1", slots=100_000, capabilities=("work",))
        assert (await burst(http, "before", 50))[0] == Counter({201: 50})
        tasks = len(asyncio.all_tasks())
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for number in range(3):
                statuses, slowest = await burst(http, f"hung{number}", 100)
                assert statuses == Counter({503: 100})
                assert slowest <= DEADLINE_MS / 1000 + A_BIT_S
                # four calls may be out, and a refresh, a turn of reaping and a check beside them
                assert len(asyncio.all_tasks()) <= tasks + 12
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await recovers(http, "after")
        await ready(app)
        with redis.Redis(port=server.port) as client:
            assert len(client.client_list()) <= Settings().redis_connections + 3
            # what was sent before the server stopped may have been done: once each, and its own client can find it
            leases = [lease.decode() for lease in client.zrange(f"{P}:node:n1:leases", 0, -1)]
            made = [lease for lease in leases if "hung" in lease]
        for lease in made[:5]:
            body = {"requires": ["work"], "deliver": "direct", "id": lease.partition(":")[2]}
            assert (await http.post("/v1/jobs", json=body)).status_code == 200


@pytest.mark.one_shard(RELAY)
async def test_over_slow_connections_answers_are_late_but_bounded_and_connections_too(
    redis_url: str, client: redis.Redis, server: EmbeddedServer
) -> None:
    assert redis_url
    deadline_ms = 1_500
    async with slow_to(server.port) as (slow, url), running(limited(url, deadline_ms)) as (app, http):
        await ready(app)
        await Speaker(http, packed=False, app=app).register("n1", slots=100_000, capabilities=("work",))
        slow.delay_s = 0.05
        statuses, slowest = await burst(http, "late", 50)
        assert statuses == Counter({201: 50})
        assert slowest <= deadline_ms / 1000
        slow.delay_s = 2 * deadline_ms / 1000
        for number in range(3):
            statuses, slowest = await burst(http, f"slow{number}", 100)
            assert statuses == Counter({503: 100})
            assert slowest <= deadline_ms / 1000 + A_BIT_S
        slow.delay_s = 0
        await recovers(http, "fast")
        assert slow.most <= 2 * Settings().redis_connections
    assert client.zcard(f"{P}:leases") <= 50 + 300 + 10


@pytest.mark.one_shard(RELAY)
async def test_a_lost_reply_to_a_claim_is_resolved_by_its_id_within_the_same_request(
    redis_url: str, client: redis.Redis, server: EmbeddedServer
) -> None:
    assert redis_url
    async with relay_to(server.port) as relay, running(Settings(redis_url=relay.url)) as (app, http):
        await ready(app)
        await Speaker(http, packed=False, app=app).register("n1", capabilities=("work",))
        for number, body in enumerate(({"id": "mine"}, {})):
            relay.losing("claimed")
            answer = await http.post("/v1/jobs", json={"requires": ["work"], "deliver": "direct", **body})
            assert relay.times == 0
            # found, not made again: the claim whose reply was lost is the only one
            assert answer.status_code == 200
            told = answer.json()["job"]
            assert (told["node"]["id"], told["attempt"], told["state"]) == ("n1", 1, "claimed")
            assert client.zcard(f"{P}:node:n1:leases") == number + 1
            assert client.hget(f"{P}:job:{told['id']}", "fence") == str(told["fence"]).encode()


async def test_over_maxmemory_claims_are_refused_a_finish_frees_the_slot_and_nothing_is_half_written(
    speak: Speaker, shards: Shards
) -> None:
    await speak.register("n1", slots=1, capabilities=("work",))
    placed: Any = (await speak("POST", "/v1/jobs", {"requires": ["work"], "deliver": "direct"})).body["job"]
    shards.everywhere("CONFIG", "SET", "maxmemory", 1)
    try:
        started = time.monotonic()
        told = await speak.refused("POST", "/v1/jobs", {"requires": ["work"], "id": "refused"}, 503)
        assert time.monotonic() - started <= 1 + A_BIT_S
        assert told.body["code"] == "server_unavailable"
        assert "maxmemory" in told.body["detail"]
        finish = {"fence": placed["fence"], "outcome": "succeeded"}
        assert (await speak("POST", f"/v1/jobs/{placed['id']}/finish", finish)).status == 200
        assert shards.holding("n1") == shards.total("leases") == 0
        assert shards.redis.sismember(f"{shards.of_node('n1')}:free", "n1")
        assert not [key for key in shards.found("job:*") if "refused" in key]
    finally:
        shards.everywhere("CONFIG", "SET", "maxmemory", 0)
    assert (await speak("POST", "/v1/jobs", {"requires": ["work"], "id": "refused"})).status == 201


@pytest.mark.parametrize("path", ["/v1/jobs/0.none", "/v1/nodes/n1", "/v1/cluster"])
async def test_reads_of_a_hung_server_are_bounded_too(fresh_server: Callable[..., EmbeddedServer], path: str) -> None:
    server = fresh_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
    async with running(limited(server.url)) as (app, http):
        await ready(app)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert (await http.get(path)).status_code == 503
            # a wait for a connection, one for its opening and one for the answer, each within the limit
            assert time.monotonic() - started <= 3 * DEADLINE_MS / 1000 + A_BIT_S
        finally:
            os.kill(server.pid, signal.SIGCONT)
