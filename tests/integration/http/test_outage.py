"""Without Redis, or without its library, a replica says so within a bounded time and recovers by itself."""

import asyncio
import time
from collections.abc import Callable

import httpx
import msgspec
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.settings import Settings
from scheduler.store.library import read_library
from tests.integration.http.conftest import Speaker, ready, running
from tests.sharded import Shards

JOB = {"requires": ["asr:zh"]}
READS = ("/v1/nodes/n1", "/v1/cluster", "/v1/jobs/x")


async def becomes(plain: httpx.AsyncClient, path: str, status: int, deadline_s: float = 10) -> httpx.Response:
    end = time.monotonic() + deadline_s
    while (response := await plain.get(path)).status_code != status:
        assert time.monotonic() < end, response.text
        await asyncio.sleep(0.02)
    return response


async def test_without_redis_every_answer_is_503_in_time_and_it_recovers(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
    async with running(Settings(redis_url=server.url, deadline_ms=500, redis_timeout_ms=500)) as (app, plain):
        await ready(app)
        speak = Speaker(plain, packed=False, app=app)
        await speak.register("n1")
        server.stop()
        started = time.monotonic()
        told = await speak.refused("POST", "/v1/jobs", JOB, 503)
        assert time.monotonic() - started < 1.5
        assert (told.body["code"], told.headers["retry-after"]) == ("server_unavailable", "1")
        assert "class" not in told.body
        for path in READS:
            told = await speak.refused("GET", path, None, 503)
            assert int(told.headers["retry-after"]) >= 1
        assert (await plain.get("/healthz")).status_code == 200
        response = await becomes(plain, "/readyz", 503)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "1"
        assert "Redis" in response.json()["detail"]
        page = await becomes(plain, "/", 503)
        assert page.headers["content-type"].startswith("text/html")
        assert "This replica cannot place jobs" in page.text
        server.start()
        with redis.Redis(port=server.port) as client:
            client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        await becomes(plain, "/readyz", 200)
        await speak.register("n1")
        assert (await speak("POST", "/v1/jobs", JOB)).status == 201


async def test_the_overview_survives_redis_going_away_between_two_looks(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
    async with running(Settings(redis_url=server.url, refresh_ms=60_000)) as (app, plain):
        await ready(app)
        server.stop()
        page = await plain.get("/")
        assert page.status_code == 503
        assert page.headers["content-type"].startswith("text/html")


async def test_without_the_library_it_is_not_ready_and_says_what_to_do(redis_url: str, shards: Shards) -> None:
    shards.everywhere("FUNCTION", "FLUSH")
    async with running(Settings(redis_url=redis_url)) as (_, plain):
        end = time.monotonic() + 10
        while "fleet library load" not in (response := await becomes(plain, "/readyz", 503)).json()["detail"]:
            assert time.monotonic() < end, response.text
            await asyncio.sleep(0.02)
        assert response.headers["retry-after"] == "1"
        body = msgspec.json.encode(JOB)
        response = await plain.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["code"]) == (503, "library_mismatch")
        assert "fleet library load" in response.json()["detail"]
        shards.everywhere("FUNCTION", "LOAD", read_library().code)
        await becomes(plain, "/readyz", 200)
