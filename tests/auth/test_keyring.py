"""Keys on several replicas: new, rotated, revoked and ended ones, while Redis is there and while it is away."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from starlette.applications import Starlette

from scheduler.dev.server import EmbeddedServer
from scheduler.domain.apikey import KeyId, hashed, new_key, rotated
from scheduler.engine.keyring import Keyring
from scheduler.settings import Settings
from scheduler.store.client import connect
from scheduler.store.functions import Functions
from scheduler.store.library import load_library
from tests.auth.conftest import Fleet, Keys, P, bearer
from tests.integration.http.conftest import ready, running

REFRESH_MS = 200
Replica = tuple[Starlette, httpx.AsyncClient]
Refresh = Callable[[], Awaitable[None]]


async def status(replica: Replica, key: str | None, path: str = "/v1/pools") -> int:
    return (await replica[1].get(path, headers=bearer(key))).status_code


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 10) -> float:
    """The seconds it took."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < deadline_s, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[list[Replica]]:
    """Two replicas on the loopback, as `fleet serve` has them there: open until there is a key."""
    async with contextlib.AsyncExitStack() as opened:
        replicas = [
            await opened.enter_async_context(running(Settings(redis_url=redis_url, refresh_ms=REFRESH_MS)))
            for _ in range(2)
        ]
        for app, _ in replicas:
            await ready(app)
        yield replicas


async def closed(replicas: list[Replica]) -> None:
    for replica in replicas:
        await until(lambda replica=replica: _is(replica, None, 401), "closed")  # type: ignore[misc]


async def _is(replica: Replica, key: str | None, wanted: int) -> bool:
    return await status(replica, key) == wanted


async def test_everybody_may_until_the_first_key_and_from_then_on_nobody_without_one(
    two: list[Replica], keys: Keys
) -> None:
    assert [await status(replica, None) for replica in two] == [200, 200]
    id_, text = await keys.make("*", "admin")
    await closed(two)
    assert [await status(replica, text) for replica in two] == [200, 200]
    await keys.functions.apikey_remove(id_)
    await closed(two)
    for replica in two:
        await until(lambda replica=replica: _is(replica, text, 401), "revoked")  # type: ignore[misc]


async def test_a_fresh_key_works_at_once_on_every_replica(two: list[Replica], keys: Keys) -> None:
    await keys.make("*", "admin")
    await closed(two)
    for _ in range(10):
        text = await keys.text("acme", "submit")
        assert [await status(replica, text) for replica in two] == [200, 200]


async def test_the_first_key_of_a_tenant_is_not_taken_for_anyone(two: list[Replica], keys: Keys) -> None:
    text = await keys.text("acme", "submit")
    for replica in two:
        told = await replica[1].get("/v1/cluster", headers=bearer(text))
        assert told.status_code == 403, "an open replica would have answered"


async def test_a_revocation_holds_on_both_within_one_refresh(two: list[Replica], keys: Keys) -> None:
    await keys.make("*", "admin")
    await closed(two)
    removed = asyncio.Event()
    # the first refresh of each that begins after the removal must know of it
    firsts: dict[int, bool] = {}
    id_, text = await keys.make("acme", "submit")
    for number, (app, _) in enumerate(two):
        ring = app.state.engine.keyring

        async def noted(number: int = number, ring: Keyring = ring, refresh: Refresh = ring.refresh) -> None:
            after = removed.is_set()
            await refresh()
            if after:
                firsts.setdefault(number, ring.key(id_) is None)

        ring.refresh = noted
    assert [await status(replica, text) for replica in two] == [200, 200]
    await keys.functions.apikey_remove(id_)
    removed.set()
    took = await asyncio.gather(*(until(lambda r=r: _is(r, text, 401), "revoked") for r in two))  # type: ignore[misc]
    assert firsts == {0: True, 1: True}
    # far above a refresh, for the machine may be busy
    assert max(took) < 10 * REFRESH_MS / 1000


async def test_an_expiry_needs_no_refresh(two: list[Replica], keys: Keys) -> None:
    _, text = await keys.make("acme", "submit", expires_ms=3_000)
    assert [await status(replica, text) for replica in two] == [200, 200]
    await asyncio.gather(*(until(lambda r=r: _is(r, text, 401), "expired") for r in two))  # type: ignore[misc]


async def rotate(keys: Keys, id_: KeyId, tenant: str, old: str, secret: str, grace_ms: int) -> str:
    now_ms = int(time.time() * 1000)
    held = new_key(old, tenant, "submit", now_ms)
    return await keys.functions.apikey_put(id_, rotated(held, secret, now_ms, grace_ms), hashed(old))


async def test_of_many_rotations_at_once_one_wins_and_only_its_secret_is_good(two: list[Replica], keys: Keys) -> None:
    id_, text = await keys.make("acme", "submit")
    old = text.partition(f"{id_}_")[2]
    secrets = [f"{number:043}" for number in range(20)]
    words = await asyncio.gather(*(rotate(keys, id_, "acme", old, secret, 0) for secret in secrets))
    assert sorted(words) == ["changed"] * 19 + ["stored"]
    won = secrets[words.index("stored")]
    for replica in two:
        assert await status(replica, f"fleet_{id_}_{won}") == 200, "at once, as a fresh key is"
        await until(lambda replica=replica: _is(replica, text, 401), "the old one ends")  # type: ignore[misc]
    others = [f"fleet_{id_}_{secret}" for secret in secrets if secret != won]
    assert [await status(two[0], other) for other in others[:3]] == [401, 401, 401]


async def test_the_old_secret_goes_on_for_the_grace_and_no_longer(two: list[Replica], keys: Keys) -> None:
    id_, text = await keys.make("acme", "submit")
    await rotate(keys, id_, "acme", text.partition(f"{id_}_")[2], "n" * 43, 4_000)
    for replica in two:
        assert await status(replica, f"fleet_{id_}_{'n' * 43}") == 200
        assert await status(replica, text) == 200
    await asyncio.gather(*(until(lambda r=r: _is(r, text, 401), "the grace is over") for r in two))  # type: ignore[misc]


async def test_many_unknown_keys_cost_few_looks(two: list[Replica], keys: Keys) -> None:
    await keys.make("*", "admin")
    await closed(two)
    app, http = two[0]
    looks = 0
    version = app.state.engine.keyring._read.version

    async def counted() -> str:
        nonlocal looks
        looks += 1
        return str(await version())

    app.state.engine.keyring._read.version = counted
    started = time.monotonic()
    told = await asyncio.gather(
        *(http.get("/v1/pools", headers=bearer(f"fleet_{number:08}_{'x' * 43}")) for number in range(300))
    )
    seconds = time.monotonic() - started
    assert {answer.status_code for answer in told} == {401}
    assert looks <= 2 + seconds / 0.05 + seconds / (0.8 * REFRESH_MS / 1000) + 1


async def test_a_stream_ends_with_its_key(two: list[Replica], keys: Keys) -> None:
    id_, text = await keys.make("acme", "submit")
    app, http = two[0]
    streaming = asyncio.create_task(http.get("/v1/events", headers=bearer(text)))

    async def begun() -> bool:
        return bool(app.state.engine.first.fanout.count)

    await until(begun, "the stream")
    assert not streaming.done()
    await keys.functions.apikey_remove(id_)
    assert (await asyncio.wait_for(streaming, 10)).status_code == 200
    assert not app.state.engine.keyring._watched


async def test_a_long_poll_tells_nothing_once_its_key_has_ended(two: list[Replica], keys: Keys) -> None:
    admin = await keys.text("*", "admin")
    id_, text = await keys.make("acme", "submit")
    _, http = two[0]
    node = {"endpoint": "http://n1", "slots": 1, "capabilities": ["a"], "ttl_ms": 60_000}
    assert (await http.put("/v1/nodes/n1", json=node, headers=bearer(admin))).status_code == 201
    placed = await http.post("/v1/jobs", json={"requires": ["a"], "deliver": "direct"}, headers=bearer(text))
    job = placed.json()["job"]
    poll = asyncio.create_task(http.get(f"/v1/jobs/{job['id']}?wait_ms=20000", headers=bearer(text)))
    await until(lambda: _waits(two[0][0]), "the long poll")
    await keys.functions.apikey_remove(id_)
    await until(lambda: _is(two[0], text, 401), "revoked")
    body = {"fence": job["fence"], "outcome": "succeeded", "result": '"secret"'}
    finished = await http.post(
        f"/v1/jobs/{job['id']}/finish", json=body, headers=bearer(admin, x_fleet_tenant="acme")
    )
    assert finished.status_code == 200
    told = await asyncio.wait_for(poll, 20)
    assert (told.status_code, "secret" in told.text) == (401, False)


async def _waits(app: Starlette) -> bool:
    return any(shard.waker.count for shard in app.state.engine.shards)


async def test_the_last_keys_go_on_while_redis_is_away_and_it_is_not_open_when_it_comes_back_empty(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    client = connect(server.url, timeout_ms=5_000)
    try:
        await load_library(client)
        keys = Keys(Functions(client, P))
        text = await keys.text("*", "operator")
        async with running(Settings(redis_url=server.url, redis_timeout_ms=200, deadline_ms=200)) as (app, http):
            await ready(app)
            replica = (app, http)
            assert await status(replica, text, "/v1/mirror") == 200
            server.kill()
            assert await status(replica, text, "/v1/mirror") == 200, "the key is known"
            assert await status(replica, None, "/v1/mirror") == 401
            unknown = f"fleet_unknown1_{'x' * 43}"
            told = await http.get("/v1/mirror", headers=bearer(unknown))
            assert (told.status_code, told.headers["retry-after"]) == (503, "1"), "nobody can tell"
            server.start()

            async def forgotten() -> bool:
                return await status(replica, text, "/v1/mirror") == 401

            # it kept nothing: the keys are gone, and with them everybody's way in
            await until(forgotten, "the empty server is seen", 20)
            assert await status(replica, None, "/v1/mirror") == 401
    finally:
        await client.aclose()


async def test_a_replica_that_has_never_reached_redis_lets_nobody_in(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    server.kill()
    settings = Settings(redis_url=server.url, redis_timeout_ms=200, deadline_ms=200)
    async with running(settings) as (_, http):
        for key in (None, f"fleet_unknown1_{'x' * 43}"):
            assert (await http.get("/metrics", headers=bearer(key))).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/ui/static/fleet.css")).status_code == 200


async def test_an_entry_that_cannot_be_read_lets_nobody_in_and_keeps_nobody_out(
    two: list[Replica], keys: Keys
) -> None:
    text = await keys.text("acme", "submit")
    await keys.functions.client.execute_command("HSET", f"{P}:apikeys", "damaged1", '{"role":"admin"}')
    fresh = await keys.text("acme", "submit")
    assert [await status(replica, key) for replica in two for key in (text, fresh)] == [200] * 4
    assert await status(two[0], f"fleet_damaged1_{'x' * 43}") == 401


async def test_a_replica_that_may_not_read_the_keys_is_open_without_any_and_shut_with_the_first(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    client = connect(server.url, timeout_ms=5_000)
    try:
        await load_library(client)
        # rights from before there were keys
        await client.execute_command(
            "ACL", "SETUSER", "older", "on", "nopass", "+@all", "~fleet:{0}", "~fleet:{0}:[^a]*"
        )
        url = server.url.replace("redis://", "redis://older:any@")
        async with running(Settings(redis_url=url)) as (app, http):
            await ready(app)
            replica = (app, http)
            assert await status(replica, None) == 200
            text = await Keys(Functions(client, P)).text("*", "admin")
            await until(lambda: _is(replica, None, 401), "shut")
            told = await http.get("/v1/pools", headers=bearer(text))
            assert told.status_code == 503
            assert "cannot be checked" in told.text
    finally:
        await client.aclose()


async def test_who_needs_a_key_is_told_so_also_where_tenants_have_quotas(two_tenants: Fleet) -> None:
    told = await two_tenants.ask("PUT", "/v1/tenants/acme", two_tenants.admin, {"requests_per_s": 1_000})
    assert told.status_code == 200
    await two_tenants.seen()
    assert two_tenants.app.state.engine.has_quotas
    for key in (None, "fleet_unknown1"):
        told = await two_tenants.ask("GET", "/v1/nodes", key)
        assert (told.status_code, told.headers["x-request-id"]) == (401, told.json()["request_id"])
