"""Eight shards: where jobs go, that none is refused while a shard has room, and that none is there twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
import redis

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, PoolName, Tenant
from scheduler.domain.job import JobRequest, JobState
from scheduler.domain.reason import Reason, RefusalClass
from scheduler.engine import moving
from scheduler.engine.dispatch import Placement, Refusal
from scheduler.engine.engine import Engine
from scheduler.engine.shard import Shard
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.settings import Settings
from scheduler.store.codec import Exists, Waiting
from scheduler.store.layout import chosen_tags
from scheduler.store.moves import Move
from tests.conftest import divide, looking
from tests.integration.engine.test_engine import until

TENANT = Tenant("default")
TAGS = chosen_tags(8)


@pytest.fixture
def shards(client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that reaches all of them."""
    with looking(client) as found:
        yield found.redis


def request(name: str = "", *tokens: str, **more: Any) -> JobRequest:
    """One with an id of the client's choice, where it has a name."""
    demand = demand_from_tokens(tokens or ("gpu",), TENANT)
    job, digest = (JobId(f"default:{name}"), f"digest-{name}") if name else (JobId("0.made"), "-")
    return JobRequest(job, digest, demand, deliver="direct", ack_ms=600_000, **more)


Start = Callable[[], Coroutine[Any, Any, Engine]]


@pytest.fixture
async def start(redis_url: str, client: redis.Redis) -> AsyncIterator[Start]:
    running: list[Engine] = []

    async def begin() -> Engine:
        engine = Engine(Settings(redis_url=redis_url, deadline_ms=3_000, refresh_ms=50, reap_ms=50))
        running.append(engine)
        if len(running) == 1:
            divide(client, len(TAGS))
        await engine.start()
        await until(lambda: len(engine.shards) == len(TAGS) and all(s.obstacle() is None for s in engine.shards))
        return engine

    yield begin
    for engine in running:
        await engine.stop()


@pytest.fixture
async def engine(start: Start) -> Engine:
    return await start()


def nodes_in(engine: Engine, shard: Shard, count: int) -> list[NodeId]:
    """Ids that lead to this shard."""
    names = (NodeId(f"n{i}") for i in range(100_000))
    found = [node for node, _ in zip((n for n in names if engine.parts.shards.of_node(n) is shard), range(count))]  # noqa: B905
    assert len(found) == count
    return found


def name_in(engine: Engine, shard: Shard, prefix: str = "job") -> str:
    """A job's name that leads to this shard."""
    return next(
        f"{prefix}{i}" for i in range(100_000) if engine.parts.shards.of_job(JobId(f"default:{prefix}{i}")) is shard
    )


async def register(engine: Engine, node: NodeId, slots: int = 2, capabilities: str = "gpu", **more: object) -> int:
    shard = engine.parts.shards.of_node(node)
    known = await shard.functions.node_register(
        node, endpoint=f"http://{node}", slots=slots, capabilities=capabilities.split(), ttl_ms=600_000, **more
    )
    await shard.mirror.refresh()
    return known.incarnation


async def refresh(*engines: Engine) -> None:
    await asyncio.gather(*(shard.mirror.refresh() for engine in engines for shard in engine.shards))


def held(shards: redis.Redis) -> dict[str, int]:
    """Leases by what holds them, in all shards."""
    found: Counter[str] = Counter()
    for tag in TAGS:
        members: Any = shards.zrange(f"fleet:{{{tag}}}:leases", 0, -1)
        found.update(member.decode() for member in members)
    return dict(found)


async def test_a_node_that_leads_to_another_shard_is_refused(engine: Engine) -> None:
    node = nodes_in(engine, engine.shards[3], 1)[0]
    with pytest.raises(BadInput, match="belongs to the shard"):
        await engine.first.functions.node_register(node, endpoint="http://n", slots=1, capabilities=["gpu"])
    assert await engine.first.functions.shard_find(node) == engine.shards[3].key


async def test_jobs_go_where_slots_are_free(engine: Engine) -> None:
    for shard, slots in zip(engine.shards, (10, 10, 20, 20, 30, 30, 40, 40), strict=True):
        await register(engine, nodes_in(engine, shard, 1)[0], slots)
    await refresh(engine)
    seen: Counter[str] = Counter()
    for _ in range(100):
        verdict = await engine.place(request())
        assert isinstance(verdict, Placement)
        job = verdict.placed.placement.job
        seen[job.partition(".")[0]] += 1
    assert sum(seen[tag] for tag in TAGS[4:]) > sum(seen[tag] for tag in TAGS[:4]) > 0
    assert len(seen) == 8


async def test_every_slot_of_every_shard_is_found_before_a_refusal(engine: Engine, shards: redis.Redis) -> None:
    for shard in engine.shards:
        await register(engine, nodes_in(engine, shard, 1)[0], 2)
    await refresh(engine)
    verdicts = [await engine.place(request(f"k{i}" if i % 2 else "")) for i in range(16)]
    assert all(isinstance(verdict, Placement) for verdict in verdicts)
    await refresh(engine)
    refused = await engine.place(request())
    assert isinstance(refused, Refusal)
    assert (refused.refusal, refused.reasons) == (RefusalClass.OVERLOADED, {Reason.FULL: 8})
    assert isinstance(await engine.place(request("new")), Refusal)
    assert len(held(shards)) == 16
    assert not any(shards.exists(f"fleet:{{{tag}}}:job:default:new") for tag in TAGS)
    impossible = await engine.place(request("", "nothing:has-this"))
    assert isinstance(impossible, Refusal)


@pytest.mark.parametrize("named", [False, True])
async def test_a_shard_that_was_left_out_and_is_back_makes_no_refusal(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    named: bool,  # noqa: FBT001
) -> None:
    left_out = engine.shards[5]
    await register(engine, nodes_in(engine, left_out, 1)[0])
    name = name_in(engine, engine.shards[2]) if named else ""
    others = [shard for shard in engine.shards if shard is not left_out]
    with monkeypatch.context() as patched:
        # as if its snapshot had been too old when the shards were put in order
        patched.setattr(engine.parts.shards, "order", lambda _: others)
        with pytest.raises(ServerUnavailable, match="no other shard has room"):
            await engine.place(request(name))
    assert isinstance(await engine.place(request(name)), Placement)


async def test_a_job_with_an_id_is_found_again_wherever_it_went(start: Start, shards: redis.Redis) -> None:
    one, two = await start(), await start()
    home = one.shards[2]
    node = nodes_in(one, one.shards[5], 1)[0]
    await register(one, node, 5)
    await refresh(one, two)
    name = name_in(one, home)
    placed = await one.place(request(name))
    assert isinstance(placed, Placement)
    assert placed.placed.placement.node == node
    assert (one.moved, two.moved) == ({"placed": 1, "waiting": 0}, {"placed": 0, "waiting": 0})
    for engine in (one, two):
        again = await engine.place(request(name))
        assert isinstance(again, Exists)
        assert (again.placement.node, again.placement.fence) == (node, placed.placed.placement.fence)
        other = msgspec.structs.replace(request(name), digest="another")
        assert await engine.place(other) == "differs"
        view = await engine.parts.jobs.job(JobId(f"default:{name}"), TENANT)
        assert view is not None
        assert view.node is not None
        assert view.node.id == node
        assert await engine.parts.jobs.job(JobId(f"default:{name}"), Tenant("other")) is None
    assert held(shards) == {f"default:{name}": 1}
    assert await two.parts.jobs.cancel(JobId(f"default:{name}"), Tenant("other")) == "unknown"
    assert await two.parts.jobs.cancel(JobId(f"default:{name}"), TENANT) == "cancelled"
    assert held(shards) == {}


async def test_two_replicas_at_once_place_an_id_once(start: Start, shards: redis.Redis) -> None:
    engines = [await start(), await start(), await start()]
    for shard in engines[0].shards[4:]:
        await register(engines[0], nodes_in(engines[0], shard, 1)[0], 100)
    await refresh(*engines)
    for number in range(40):
        name = name_in(engines[0], engines[0].shards[number % 4], f"race{number}x")
        verdicts = await asyncio.gather(*(engine.place(request(name)) for engine in engines for _ in range(3)))
        where = {
            verdict.placed.placement.node if isinstance(verdict, Placement) else verdict.placement.node
            for verdict in verdicts
            if isinstance(verdict, Placement | Exists)
        }
        assert len(where) == 1, verdicts
        assert sum(isinstance(verdict, Placement) for verdict in verdicts) == 1
    await until(lambda: len(held(shards)) == 40, 10)
    assert not [name for name in held(shards) if name.startswith("hold")]


async def test_a_session_stays_on_its_node_through_every_replica(start: Start) -> None:
    one, two = await start(), await start()
    for shard in one.shards:
        for node in nodes_in(one, shard, 2):
            await register(one, node, 50)
    await refresh(one, two)
    shards = set()
    for number in range(20):
        sticky = {"session": f"s{number}", "affinity": "sticky"}
        places = [
            await engine.place(request(name, **sticky))
            for engine, name in ((one, ""), (two, f"a{number}"), (one, f"b{number}"), (two, ""))
        ]
        nodes = {place.placed.placement.node for place in places if isinstance(place, Placement)}
        assert len(nodes) == 1, places
        shards.add(one.parts.shards.of_node(nodes.pop()))
    assert len(shards) > 3


@pytest.mark.parametrize("name", ["", "named"])
async def test_a_job_that_waits_moves_to_a_shard_that_has_room_within_a_second(
    engine: Engine, shards: redis.Redis, name: str
) -> None:
    full, roomy = nodes_in(engine, engine.shards[1], 1)[0], nodes_in(engine, engine.shards[6], 1)[0]
    await register(engine, full, 1)
    await refresh(engine)
    assert isinstance(await engine.place(request()), Placement)
    waiting = await engine.place(request(name, wait_ms=60_000, payload='{"a":1}'))
    assert isinstance(waiting, Waiting)
    await register(engine, roomy, 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    poll = asyncio.create_task(engine.parts.jobs.job(waiting.job, TENANT, 10_000))

    def claimed() -> bool:
        return shards.hget(f"{engine.shards[6].key}:job:{waiting.job}", "state") == b"claimed"

    await until(claimed, 5)
    assert loop.time() - began < 1.5
    await until(lambda: engine.moved == {"placed": 0, "waiting": 1}, 5)
    view = await engine.parts.jobs.job(waiting.job, TENANT)
    assert view is not None
    assert (view.state, view.node and view.node.id, view.attempt) == (JobState.CLAIMED, roomy, 1)
    assert not poll.done()
    shard = await engine.parts.jobs.shard(waiting.job, TENANT)
    assert shard is engine.shards[6]
    started = await shard.functions.job_start(waiting.job, view.fence)  # type: ignore[arg-type]
    assert getattr(started, "payload", "") == '{"a":1}'
    await shard.functions.job_finish(waiting.job, view.fence, "succeeded", "done")  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        ended = await poll
    assert ended is not None
    assert (ended.state, ended.result) == (JobState.SUCCEEDED, "done")


async def test_a_job_of_a_lost_node_moves_on_with_its_attempt_and_a_higher_fence(
    engine: Engine, shards: redis.Redis
) -> None:
    lost, other = nodes_in(engine, engine.shards[0], 1)[0], nodes_in(engine, engine.shards[7], 1)[0]
    await register(engine, lost, 1)
    await refresh(engine)
    wanted = msgspec.structs.replace(request("orphan", payload="{}"), deliver="inbox")
    placed = await engine.place(wanted)
    assert isinstance(placed, Placement)
    first = placed.placed.placement
    shard = engine.parts.shards.of_node(lost)
    await shard.functions.job_start(first.job, first.fence)
    await register(engine, other, 1)
    shards.zadd(f"{shard.key}:nodes", {lost: 1})  # its heartbeat lapsed

    def moved() -> bool:
        return shards.hget(f"{engine.shards[7].key}:job:{first.job}", "state") == b"claimed"

    await until(moved, 5)
    view = await engine.parts.jobs.job(first.job, TENANT)
    assert view is not None
    assert view.node is not None
    assert (view.node.id, view.attempt) == (other, 2)
    assert view.fence is not None
    assert view.fence > first.fence
    assert await shard.functions.job_finish(first.job, first.fence, "succeeded", "late") == "fenced"
    assert held(shards) == {first.job: 1}


async def test_a_job_that_waits_is_cancelled_and_expires_as_ever(engine: Engine, shards: redis.Redis) -> None:
    await register(engine, nodes_in(engine, engine.shards[1], 1)[0], 1)
    await refresh(engine)
    assert isinstance(await engine.place(request()), Placement)
    waiting = await engine.place(request("w", wait_ms=60_000))
    assert isinstance(waiting, Waiting)
    assert await engine.parts.jobs.cancel(waiting.job, TENANT) == "cancelled"
    short = await engine.place(request("short", wait_ms=200))
    assert isinstance(short, Waiting)
    async with asyncio.timeout(5):
        ended = await engine.parts.jobs.job(short.job, TENANT, 4_000)
    assert ended is not None
    assert ended.state is JobState.EXPIRED
    assert len(held(shards)) == 1


async def test_pools_written_to_the_first_shard_hold_in_all(start: Start) -> None:
    one, two = await start(), await start()
    for shard in one.shards:
        await register(one, nodes_in(one, shard, 1)[0], 2)
    await one.parts.pools.put(PoolName("gold"), '{"selector":{"all":true},"tenants":["acme"]}')
    for shard in two.shards:
        _, configuration = await shard.views.configuration()
        assert list(configuration.pools) == ["gold"]
    assert await two.place(request()) != "denied"
    refused = await two.place(request())
    assert isinstance(refused, Refusal)
    assert refused.refusal is RefusalClass.IMPOSSIBLE
    # written by hand, with redis-cli: replicas bring it to the others
    await one.first.functions.pool_put(PoolName("silver"), '{"selector":{"all":true},"tenants":["default"]}')
    await until(lambda: all("silver" in shard.mirror.snapshot.pools for shard in two.shards), 5)
    with pytest.raises(BadInput, match="first shard"):
        await one.shards[4].functions.pool_put(PoolName("bad"), '{"selector":{"all":true}}')
    _, pools = await two.parts.pools.pools()
    assert [pool.name for pool in pools] == ["gold", "silver"]
    assert isinstance(await two.place(request()), Placement)
    assert await one.parts.pools.remove(PoolName("silver"))
    assert not await one.parts.pools.remove(PoolName("silver"))


async def test_an_automatic_pool_of_another_shard_is_not_removed(engine: Engine) -> None:
    await engine.first.functions.pools_apply(0, '{"language_pools":{"tenants":["acme"]}}')
    await engine.parts.fleet.refresh()
    node = nodes_in(engine, engine.shards[5], 1)[0]
    await register(engine, node, 1, "semantic:en semantic:de")
    with pytest.raises(BadInput, match="automatic"):
        await engine.parts.pools.remove(PoolName("de-en"))


async def test_a_frozen_shard_answers_moving_and_the_others_go_on(engine: Engine, shards: redis.Redis) -> None:
    for shard in engine.shards[:2]:
        await register(engine, nodes_in(engine, shard, 1)[0], 50)
    await refresh(engine)
    frozen = engine.shards[1]
    assert await frozen.functions.shard_freeze("freeze") == "frozen"
    before = shards.zcard(f"{frozen.key}:leases")
    await until(lambda: frozen.away, 5)
    for _ in range(10):
        verdict = await engine.place(request())
        assert isinstance(verdict, Placement)
    assert shards.zcard(f"{frozen.key}:leases") == before
    assert shards.execute_command("FCALL", "fleet1_reap", 1, frozen.key) == [b"moving"]
    assert await frozen.functions.shard_freeze("thaw") == "thawed"
    await until(lambda: frozen.obstacle() is None and not frozen.away, 5)


async def test_an_emptied_shard_is_told_again_which_there_are(engine: Engine, shards: redis.Redis) -> None:
    shard = engine.shards[5]
    for key in list(shards.scan_iter(match=f"{shard.key}*")):
        shards.delete(key)
    await until(lambda: shards.hget(shard.key, "tags") == " ".join(TAGS).encode(), 5)
    shards.flushall()
    await until(lambda: shards.hget(engine.first.key, "tags") == " ".join(TAGS).encode(), 5)
    assert engine.obstacle() is None


async def test_a_fleet_divided_anew_wants_its_replicas_restarted(engine: Engine, shards: redis.Redis) -> None:
    shards.hset(engine.first.key, "tags", "0 1")
    await until(lambda: "restart" in (engine.obstacle() or ""), 5)


async def test_a_move_left_halfway_is_ended_by_another_replica(
    start: Start, shards: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start()
    full, roomy = nodes_in(one, one.shards[1], 1)[0], nodes_in(one, one.shards[6], 1)[0]
    await register(one, full, 1)
    await refresh(one)
    assert isinstance(await one.place(request()), Placement)
    waiting = await one.place(request("half", wait_ms=60_000))
    assert isinstance(waiting, Waiting)
    home = one.parts.shards.of_job(waiting.job)

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    # every replica of this test stops where it would give the slot to the job
    monkeypatch.setattr(moving.Mover, "_hand_over", stopped)
    await register(one, roomy, 1)
    await until(lambda: shards.hget(f"{home.key}:job:{waiting.job}", "state") == b"moved", 5)
    view = await one.parts.jobs.job(waiting.job, TENANT)
    assert view is not None
    assert view.state is JobState.PENDING
    asked_at = asyncio.get_running_loop().time()
    assert await one.parts.jobs.job(waiting.job, TENANT, 400) == view
    assert asyncio.get_running_loop().time() - asked_at > 0.35
    assert isinstance(await one.place(request("half", wait_ms=60_000)), Exists)
    monkeypatch.undo()
    two = await start()
    await register(two, roomy, 1)
    key = f"{two.shards[6].key}:job:{waiting.job}"
    await until(lambda: shards.hget(key, "state") == b"claimed", 10)
    await until(lambda: shards.hget(f"{home.key}:job:{waiting.job}", "settled") == b"1", 10)
    assert len(held(shards)) == 2


async def test_many_jobs_that_wait_move_together(engine: Engine, shards: redis.Redis) -> None:
    await register(engine, nodes_in(engine, engine.shards[1], 1)[0], 1)
    await refresh(engine)
    assert isinstance(await engine.place(request()), Placement)
    verdicts = await asyncio.gather(*(engine.place(request(wait_ms=60_000)) for _ in range(200)))
    assert all(isinstance(verdict, Waiting) for verdict in verdicts)
    for shard in engine.shards[2:]:
        await register(engine, nodes_in(engine, shard, 1)[0], 50)
    began = asyncio.get_running_loop().time()
    await until(lambda: len(held(shards)) == 201 and not any(name[0] == "h" for name in held(shards)), 20)
    print(f"200 jobs moved in {asyncio.get_running_loop().time() - began:.2f} s")


async def test_a_shard_that_was_away_when_the_others_were_asked_has_not_said_no(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(engine, nodes_in(engine, engine.shards[3], 1)[0], 1)
    await refresh(engine)
    order = engine.parts.shards.order

    def without(wanted: JobRequest) -> list[Shard]:
        return [shard for shard in order(wanted) if shard is not engine.shards[3]]

    monkeypatch.setattr(engine.parts.shards, "order", without)
    for name in ("", name_in(engine, engine.shards[1])):
        with pytest.raises(ServerUnavailable, match="these do not answer"):
            await engine.place(request(name))


async def test_a_slot_is_not_held_for_an_id_whose_home_does_not_answer(
    engine: Engine, shards: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy, home = engine.shards[2], engine.shards[4]
    await register(engine, nodes_in(engine, roomy, 1)[0], 1)
    await refresh(engine)

    async def away(*_: object) -> None:
        raise ServerUnavailable("it does not answer")

    monkeypatch.setattr(home.functions, "job_move", away)
    with pytest.raises(ServerUnavailable):
        await engine.place(request(name_in(engine, home)))
    assert held(shards) == {}


async def test_jobs_elsewhere_are_looked_after_as_fast_as_they_may_come(engine: Engine, shards: redis.Redis) -> None:
    home, other = engine.shards[1], engine.shards[2]
    for i in range(600):
        word: Any = {"state": "moved", "shard": other.tag, "hold": "h", "settled": 1, "tenant": TENANT}
        shards.hset(f"{home.key}:job:{home.tag}.{i}", mapping=word)
        shards.zadd(f"{home.key}:moved", {f"{home.tag}.{i}": 0})
    await until(lambda: shards.zcard(f"{home.key}:moved") == 0, 5)
    assert shards.ttl(f"{home.key}:job:{home.tag}.0") > 0


async def test_a_shard_that_does_not_answer_keeps_no_jobs_of_the_others_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, asked = engine.shards[1], Counter[str]()
    monkeypatch.setattr(Shard, "away", property(lambda shard: shard is gone))
    for shard in engine.shards:

        async def due(_: int, tag: str = shard.tag) -> list[Move]:
            asked[tag] += 1
            return [Move(JobId("0.x"), gone.tag, "h", settled=True, record=b"")]

        monkeypatch.setattr(shard.functions, "moves_due", due)
    ends: list[str] = []

    async def end(_: object, shard: Shard, *__: object) -> None:
        ends.append(shard.tag)

    monkeypatch.setattr(moving.Mover, "_end", end)
    await until(lambda: asked[engine.shards[2].tag] >= 2, 10)
    assert asked[gone.tag] == 0
    assert ends == []
