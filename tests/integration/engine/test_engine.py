import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, PoolName, Tenant
from scheduler.domain.job import JobRequest
from scheduler.domain.reason import Reason, RefusalClass
from scheduler.domain.views import JobView
from scheduler.engine.dispatch import Placement, Refusal
from scheduler.engine.engine import Engine
from scheduler.errors import ServerUnavailable
from scheduler.settings import Settings
from scheduler.store.codec import Answer, Exists, Shortlist
from tests.sharded import Shards


def request(name: str, *tokens: str, digest: str = "-") -> JobRequest:
    return JobRequest(JobId(name), digest, demand_from_tokens(tokens or ("gpu",), Tenant("default")))


@pytest.fixture
async def engine(redis_url: str) -> AsyncIterator[Engine]:
    running = Engine(Settings(redis_url=redis_url, deadline_ms=2_000))
    await running.start()
    await until(lambda: running.obstacle() is None)
    yield running
    await running.stop()


async def register(engine: Engine, name: str, slots: int = 2, capabilities: str = "gpu") -> int:
    node = NodeId(name)
    answer = (
        await (await engine.known())
        .shards.of_node(node)
        .functions.node_register(
            node, endpoint=f"http://{name}", slots=slots, capabilities=capabilities.split(), ttl_ms=600_000
        )
    )
    return answer.incarnation


async def until(condition: Callable[[], bool], deadline_s: float = 5) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.one_shard("is about a fleet that nobody has used, and dividing it is a use")
async def test_an_empty_fleet_is_ready_and_refuses_as_unavailable_while_it_is_new(engine: Engine) -> None:
    await until(lambda: engine.obstacle() is None)
    verdict = await engine.place(request("0.a"))
    assert isinstance(verdict, Refusal)
    assert verdict.refusal is RefusalClass.UNAVAILABLE


@pytest.mark.one_shard("is about the snapshot of one shard")
async def test_a_pool_that_the_snapshot_does_not_know_yet_is_no_fallback(redis_url: str) -> None:
    engine = Engine(Settings(redis_url=redis_url, refresh_ms=60_000))
    await engine.start()
    await until(lambda: engine.first.mirror.filled)
    text = '{"selector":{"all":true}}'
    await engine.first.functions.pool_put(PoolName("gold"), text)
    await register(engine, "n1")
    verdict = await engine.place(request("0.a"))
    assert isinstance(verdict, Placement)
    assert (verdict.placed.placement.pool, verdict.fallback_used) == ("gold", False)
    await engine.first.mirror.refresh()
    await engine.first.functions.pool_put(PoolName("later"), text)
    await engine.first.mirror.refresh()
    await engine.first.functions.pool_remove(PoolName("gold"))
    verdict = await engine.place(request("0.b"))
    assert isinstance(verdict, Placement)
    assert (verdict.placed.placement.pool, verdict.fallback_used) == ("later", True)
    await engine.stop()


async def test_a_node_unknown_to_the_snapshot_is_found_by_redis(engine: Engine) -> None:
    await until(lambda: engine.obstacle() is None)
    await register(engine, "n1")
    verdict = await engine.place(request("0.a"))
    assert isinstance(verdict, Placement)
    assert verdict.placed.placement.node == "n1"


async def test_the_same_id_is_one_job_and_another_body_is_refused(engine: Engine) -> None:
    await register(engine, "n1")
    first = await engine.place(request("default:x", digest="1"))
    again = await engine.place(request("default:x", digest="1"))
    assert isinstance(first, Placement)
    assert isinstance(again, Exists)
    assert again.placement.fence == first.placed.placement.fence
    assert await engine.place(request("default:x", digest="2")) == "differs"


async def test_a_full_fleet_refuses_with_counts_and_a_freed_slot_is_used_at_once(engine: Engine) -> None:
    await register(engine, "n1", slots=1)
    await register(engine, "n2", slots=1, capabilities="cpu")
    held = await engine.place(request("0.a"))
    assert isinstance(held, Placement)
    await engine.parts.fleet.refresh()
    refused = await engine.place(request("0.b"))
    assert isinstance(refused, Refusal)
    assert refused.refusal is RefusalClass.OVERLOADED
    assert refused.reasons == {Reason.FULL: 1, Reason.MISSING_CAPABILITY: 1}
    job, fence = held.placed.placement.job, held.placed.placement.fence
    await engine.parts.shards.of_job(job).functions.job_finish(job, fence, "succeeded")
    assert isinstance(await engine.place(request("0.b")), Placement)


@pytest.mark.one_shard("counts the calls to one shard")
@pytest.mark.parametrize(("placements", "round_trips"), [(1, 1), (16, 1), (48, 3)])
async def test_placements_of_one_turn_make_one_round_trip_for_sixteen(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, placements: int, round_trips: int
) -> None:
    await register(engine, "n1", slots=100)
    await until(lambda: len(engine.first.mirror.snapshot.positions) == 1)
    verdicts = await asyncio.gather(*(engine.place(request(f"0.w{i}")) for i in range(placements)))
    assert all(isinstance(verdict, Placement) for verdict in verdicts)
    claim, calls = engine.first.functions.job_claim, list[int]()

    async def counted(claims: Sequence[tuple[JobRequest, Shortlist]]) -> list[Answer]:
        calls.append(len(claims))
        return await claim(claims)

    monkeypatch.setattr(engine.first.functions, "job_claim", counted)
    await asyncio.gather(*(engine.place(request(f"0.j{i}")) for i in range(placements)))
    assert len(calls) == round_trips
    assert sum(calls) == placements


async def test_a_claim_whose_caller_was_told_that_it_is_late_is_not_sent_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(Settings(redis_url=redis_url, deadline_ms=100))
    sent, never = list[JobId](), asyncio.Event()

    async def hung(claims: Sequence[tuple[JobRequest, Shortlist]]) -> list[Answer]:
        sent.extend(claim.id for claim, _ in claims)
        await never.wait()
        return []

    monkeypatch.setattr(engine.first.functions, "job_claim", hung)
    ids = [f"0.j{i}" for i in range(6)]
    told = await asyncio.gather(
        *(engine.first.dispatcher.place(request(name)) for name in ids), return_exceptions=True
    )
    assert [type(error) for error in told] == [ServerUnavailable] * 6
    await asyncio.sleep(0)
    assert sorted(sent) == ids
    for call in list(engine.first._batcher._calls):
        call.cancel()
    await engine.stop()


async def test_a_burst_shares_round_trips_and_oversells_nothing(
    engine: Engine, client: redis.Redis, shards: Shards
) -> None:
    for i in range(5):
        await register(engine, f"n{i}", slots=8)
    await engine.parts.fleet.refresh()
    before = client.info("commandstats")["cmdstat_fcall"]["calls"]
    verdicts = await asyncio.gather(*(engine.place(request(f"0.j{i}")) for i in range(100)))
    calls = client.info("commandstats")["cmdstat_fcall"]["calls"] - before
    placed = [v for v in verdicts if isinstance(v, Placement)]
    assert len(placed) == 40
    assert all(isinstance(v, Refusal) and v.refusal is RefusalClass.OVERLOADED for v in verdicts if v not in placed)
    assert [shards.holding(f"n{i}") for i in range(5)] == [8] * 5
    # who is refused asked every shard
    assert calls < 50 * len(shards.tags)


async def test_a_caller_that_goes_away_takes_nobody_elses_claim_with_it(engine: Engine) -> None:
    await register(engine, "n1", slots=10)
    await engine.parts.fleet.refresh()
    tasks = [asyncio.create_task(engine.place(request(f"0.j{i}"))) for i in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    verdicts = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(verdicts[1], asyncio.CancelledError)
    assert all(isinstance(verdicts[i], Placement) for i in (0, 2, 3))


async def test_a_long_poll_returns_when_the_job_ends_on_another_replica(engine: Engine, redis_url: str) -> None:
    await register(engine, "n1")
    verdict = await engine.place(request("0.a"))
    assert isinstance(verdict, Placement)
    placed = verdict.placed.placement
    other = Engine(Settings(redis_url=redis_url))
    shard = (await other.known()).shards.of_job(placed.job)
    waiting = asyncio.create_task(shard.waker.wait(placed.job, Tenant("default"), 20_000))
    await asyncio.sleep(0)
    await engine.parts.shards.of_job(placed.job).functions.job_finish(placed.job, placed.fence, "succeeded", "done")
    async with asyncio.timeout(5):
        view = await waiting
    await other.stop()
    assert isinstance(view, JobView)
    assert (view.state, view.result) == ("succeeded", "done")


@pytest.mark.one_shard("an emptied one of several takes no node before a replica has told it the division")
async def test_after_flushall_the_snapshot_is_filled_anew(engine: Engine, shards: Shards) -> None:
    await register(engine, "n1")
    await engine.parts.fleet.refresh()
    shards.everywhere("FLUSHALL")
    await register(engine, "n2")
    await engine.parts.fleet.refresh()
    assert [name for shard in engine.shards for name in shard.mirror.snapshot.ids] == ["n2"]
    verdict = await engine.place(request("0.a", "nothing:has-this"))
    assert isinstance(verdict, Refusal)
    assert verdict.refusal is RefusalClass.UNAVAILABLE  # for 10 s nothing is impossible: nodes are coming back


async def test_without_redis_a_request_ends_within_its_deadline_and_recovers_by_itself(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    loading = Engine(Settings(redis_url=server.url, deadline_ms=300))
    await loading.first.functions.client.execute_command("FUNCTION", "LOAD", loading.library.code)
    await loading.start()
    await register(loading, "n1")
    await until(lambda: loading.obstacle() is None)
    server.kill()
    with pytest.raises(ServerUnavailable):
        await loading.place(request("0.a"))
    await until(lambda: loading.obstacle() is not None)
    server.start()
    await until(lambda: loading.obstacle() is None)
    assert isinstance(await loading.place(request("0.a")), Placement | Exists)
    await loading.stop()
