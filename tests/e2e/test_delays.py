"""How long a change takes until placements follow it, measured through a real replica and printed."""

import asyncio
import time
from collections.abc import Callable

import httpx

from scheduler.agent import Agent, Job
from scheduler.domain.ids import NodeId
from scheduler.settings import Settings
from tests.e2e.conftest import fcall, place, register, wait_until
from tests.integration.agent.conftest import node_config, until
from tests.integration.http.conftest import ready, running
from tests.sharded import Shards

TTL_MS, REFRESH_MS, HEARTBEAT_MS = 3_000, 200, 1_000
TRIES = 5


def since(start: float) -> float:
    return (time.monotonic() - start) * 1000


def node_of(answer: httpx.Response) -> str | None:
    return str(answer.json()["job"]["node"]["id"]) if answer.status_code == 201 else None


def best_of(measure: Callable[[int], float]) -> float:
    """A busy test machine only ever adds to a delay, so the best try is the nearest to the truth."""
    return min(measure(i) for i in range(TRIES))


def test_the_claim_after_a_cordon_does_not_land_there(shards: Shards, http: httpx.Client) -> None:
    register(shards, "n1", "asr:zh")

    def cordon(_: int) -> float:
        assert node_of(place(http, "asr:zh")) == "n1"
        assert fcall(shards, "node_mark", "n1", "cordon") == ["marked", "cordoned"]
        start = time.monotonic()
        refused = place(http, "asr:zh")
        delay = since(start)
        # not the best of several tries: each very next claim obeys, whatever the snapshot says
        assert (refused.status_code, refused.json()["class"]) == (503, "unavailable")
        assert fcall(shards, "node_mark", "n1", "uncordon") == ["marked", "ready"]
        return delay

    print(f"\ncordon: the next claim obeyed; it was answered after {best_of(cordon):.0f} ms")

    register(shards, "n2", "asr:zh")
    fcall(shards, "node_mark", "n1", "cordon")
    assert {node_of(place(http, "asr:zh")) for _ in range(20)} == {"n2"}


def test_a_silent_node_is_lost_and_gets_no_claim_after_its_ttl(shards: Shards, http: httpx.Client) -> None:
    incarnation = register(shards, "n1", "asr:zh", ttl_ms=TTL_MS)
    assert fcall(shards, "node_heartbeat", "n1", incarnation)[0] == "ok"
    start, last_claim, refused = time.monotonic(), 0.0, None
    while shards.redis.hget(shards.node("n1"), "state") != b"lost":
        sent = since(start)
        assert sent < TTL_MS + 2_000, "it is never marked lost"
        answer = place(http, "asr:zh")
        if answer.status_code == 201:
            last_claim = sent
        else:
            refused = answer
        time.sleep(0.01)
    lost = since(start)
    print(f"\nlost node: marked after {lost:.0f} ms, its last claim was sent after {last_claim:.0f} ms")
    assert TTL_MS - 200 < lost <= TTL_MS + 500
    assert last_claim <= TTL_MS + 500
    refused = place(http, "asr:zh")
    assert (refused.status_code, refused.json()["class"]) == (503, "unavailable")
    assert fcall(shards, "node_heartbeat", "n1", incarnation) == ["unknown"]


def test_a_heartbeat_changes_what_is_placed_within_a_refresh(shards: Shards, http: httpx.Client) -> None:
    incarnation = register(shards, "n1", "asr:zh")

    def gain(i: int) -> float:
        assert place(http, f"tts:v{i}").status_code in {422, 503}
        assert fcall(shards, "node_heartbeat", "n1", incarnation, "capabilities", f"asr:zh tts:v{i}")[0] == "ok"
        start = time.monotonic()
        wait_until(lambda: place(http, f"tts:v{i}").status_code == 201, "the new capability is used")
        return since(start)

    def lose(i: int) -> float:
        fcall(shards, "node_heartbeat", "n1", incarnation, "capabilities", f"asr:zh tts:v{i}")
        wait_until(lambda: place(http, f"tts:v{i}").status_code == 201, "the capability is offered")
        assert fcall(shards, "node_heartbeat", "n1", incarnation, "capabilities", "asr:zh")[0] == "ok"
        start = time.monotonic()
        wait_until(lambda: place(http, f"tts:v{i}").status_code != 201, "the capability is no longer used")
        return since(start)

    gained, lost = best_of(gain), best_of(lose)
    print(f"\ncapability by heartbeat: used after {gained:.0f} ms, no longer used after {lost:.0f} ms")
    assert gained <= REFRESH_MS + 100
    assert lost <= REFRESH_MS + 100


async def test_after_flushall_all_nodes_are_back_and_the_snapshot_is_right(shards: Shards, redis_url: str) -> None:
    async def work(job: Job) -> str:
        return job.id

    names = [f"n{i}" for i in range(8)]
    agents = [Agent(node_config(id=NodeId(n), heartbeat_ms=HEARTBEAT_MS), work, redis_url) for n in names]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]

    def all_are_ready() -> bool:
        return all(shards.redis.hget(shards.node(name), "state") == b"ready" for name in names)

    async with running(Settings(redis_url=redis_url)) as (app, http):
        engine = app.state.engine

        def epochs() -> list[str]:
            return [shard.mirror.snapshot.epoch for shard in engine.shards]

        def snapshot_is_right() -> bool:
            found = [node for shard in engine.shards for node in shard.mirror.snapshot.nodes if node is not None]
            held = {node.id: node for node in found}
            return (
                epochs() == [(shards.redis.hget(key, "epoch") or b"").decode() for key in shards.keys]  # type: ignore[union-attr]
                and sorted(held) == names
                and all(
                    shards.redis.hget(shards.node(name), "structure") == node.structure.encode() and node.free == 2
                    for name, node in held.items()
                )
            )

        try:
            await ready(app)
            await until(all_are_ready)
            await until(snapshot_is_right)
            before = epochs()
            shards.everywhere("FLUSHALL")
            start = time.monotonic()
            await until(all_are_ready)
            back = since(start)
            await until(snapshot_is_right)
            right = since(start)
            print(f"\nFLUSHALL: {len(names)} nodes back after {back:.0f} ms, the snapshot right after {right:.0f} ms")
            assert set(before).isdisjoint(epochs())
            assert back <= 2 * HEARTBEAT_MS + 500
            assert right <= 2 * HEARTBEAT_MS + 500 + REFRESH_MS
            placed = await http.post("/v1/jobs", json={"requires": ["work"]})
            assert placed.status_code == 201
        finally:
            for agent in agents:
                agent.leave()
            done, late = await asyncio.wait(tasks, timeout=15)
            assert not late
            for task in done:
                task.result()
