"""A primary is lost, or changes place with its replica, while clients call: they find the new one by themselves."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import redis

from scheduler.dev.cluster import EmbeddedCluster, ask, wait_until
from scheduler.dev.sentinel import SERVICE, EmbeddedSentinel
from scheduler.dev.server import EmbeddedServer
from scheduler.store.client import Client, connect
from tests.integration.store.conftest import choice_of

KEY = "fleet:{0}:n"
CALLERS = 20
pytestmark = pytest.mark.slow
# what a client may need after the promotion, on a machine that does other work too
PATIENCE_S = 1.0


@dataclass
class Seen:
    """When calls were answered, and how the others failed."""

    answered: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def first_after(self, moment: float) -> float:
        return min(at for at in self.answered if at > moment)


async def calling(client: Client, seen: Seen, stopping: asyncio.Event, key: str = KEY) -> None:
    """Ask again after each failure, as a caller with an id does."""
    while not stopping.is_set():
        try:
            await client.execute_command("INCR", key)
            seen.answered.append(time.monotonic())
            await asyncio.sleep(0.002)
        except (redis.RedisError, OSError) as error:
            seen.failed[type(error).__name__] += 1
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool], deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def info(server: EmbeddedServer) -> dict[str, Any]:
    return cast("dict[str, Any]", ask(server, "INFO", "replication"))


def role(server: EmbeddedServer) -> str:
    return str(info(server)["role"])


def report(name: str, lost: float, promoted: float, seen: Seen) -> None:
    first = seen.first_after(promoted - PATIENCE_S)
    print(
        f"{name}: promoted after {promoted - lost:.2f} s, outage seen by a client that retries "
        f"{seen.first_after(lost + 0.2) - lost:.2f} s, first answer {1000 * (first - promoted):+.0f} ms from the "
        f"promotion as seen here; failures {dict(seen.failed)}"
    )


async def test_clients_find_the_replica_that_took_over_from_a_killed_primary_of_a_cluster(
    cluster: EmbeddedCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = cluster.primary_of(KEY)
    other = next(k for k in (f"fleet:{{{i}}}:n" for i in range(100)) if cluster.primary_of(k) is not lost)
    client, seen, beside, stopping = connect(cluster.url), Seen(), Seen(), asyncio.Event()
    tasks = [asyncio.create_task(calling(client, seen, stopping)) for _ in range(CALLERS)]
    tasks.append(asyncio.create_task(calling(client, beside, stopping, other)))
    await until(lambda: len(seen.answered) > 100)
    at = time.monotonic()
    await asyncio.to_thread(lost.kill)
    await asyncio.to_thread(cluster.wait_promoted, lost)
    promoted = time.monotonic()
    await until(lambda: seen.answered[-1] > promoted)
    with capsys.disabled():
        report(f"\ncluster, {lost.choice.describe()}", at, promoted, seen)
    assert seen.first_after(at + 0.2) < promoted + PATIENCE_S
    # no other shard had to wait for it
    gaps = [b - a for a, b in zip(beside.answered, beside.answered[1:], strict=False)]
    assert max(gaps) < 1
    # the old one comes back as a replica, and nobody notices
    await until(lambda: seen.answered[-1] > promoted + 0.2)
    seen.failed.clear()
    await asyncio.to_thread(lost.start)
    await asyncio.to_thread(cluster.wait_whole)
    assert not seen.failed
    stopping.set()
    await asyncio.gather(*tasks)
    await client.aclose()


async def test_clients_follow_a_primary_of_a_cluster_that_changes_place_with_its_replica(
    cluster: EmbeddedCluster,
) -> None:
    before = await asyncio.to_thread(cluster.primary_of, KEY)
    replica = next(s for s in cluster.servers if info(s).get("master_port") == before.port)
    client, seen, stopping = connect(cluster.url), Seen(), asyncio.Event()
    tasks = [asyncio.create_task(calling(client, seen, stopping)) for _ in range(CALLERS)]
    await until(lambda: len(seen.answered) > 100)
    ask(replica, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(wait_until, lambda: role(replica) == "master", "it leads", 10)
    at = time.monotonic()
    await until(lambda: len([t for t in seen.answered if t > at]) > 100)
    stopping.set()
    await asyncio.gather(*tasks)
    # MOVED is an answer, not a failure
    assert not seen.failed
    await client.aclose()
    await asyncio.to_thread(cluster.wait_whole)


async def test_clients_find_the_replica_that_took_over_from_a_killed_primary_under_sentinel(
    sentinel: EmbeddedSentinel, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = sentinel.primary()
    client, seen, stopping = connect(sentinel.url), Seen(), asyncio.Event()
    tasks = [asyncio.create_task(calling(client, seen, stopping)) for _ in range(CALLERS)]
    await until(lambda: len(seen.answered) > 100)
    at = time.monotonic()
    await asyncio.to_thread(lost.kill)
    await asyncio.to_thread(sentinel.primary)
    promoted = time.monotonic()
    await until(lambda: seen.answered[-1] > promoted)
    with capsys.disabled():
        report(f"\nsentinel, {lost.choice.describe()}", at, promoted, seen)
    assert seen.first_after(at + 0.2) < promoted + PATIENCE_S
    await until(lambda: seen.answered[-1] > promoted + 0.2)
    seen.failed.clear()
    await asyncio.to_thread(lost.start)
    await asyncio.to_thread(sentinel.wait_whole)
    assert not seen.failed
    stopping.set()
    await asyncio.gather(*tasks)
    await client.aclose()


@pytest.mark.parametrize("name", ["cluster", "sentinel"])
async def test_clients_leave_a_primary_that_has_gone_silent(
    name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps its connections and takes new ones: only the time limit of a call tells."""
    with (
        EmbeddedCluster(choice_of(kind), replicas=1)
        if name == "cluster"
        else EmbeddedSentinel(choice_of(kind)) as running
    ):
        lost = running.primary_of(KEY) if isinstance(running, EmbeddedCluster) else running.primary()
        heir = next(server for server in running.servers if info(server).get("master_port") == lost.port)
        client, seen, stopping = connect(running.url, timeout_ms=500), Seen(), asyncio.Event()
        tasks = [asyncio.create_task(calling(client, seen, stopping)) for _ in range(CALLERS)]
        await until(lambda: len(seen.answered) > 100)
        at = time.monotonic()
        os.kill(lost.pid, signal.SIGSTOP)
        try:
            await asyncio.to_thread(wait_until, lambda: role(heir) == "master", "it leads", 20)
            promoted = time.monotonic()
            await until(lambda: seen.answered[-1] > promoted)
        finally:
            os.kill(lost.pid, signal.SIGCONT)
        with capsys.disabled():
            report(f"\n{name} with a silent primary, {kind}", at, promoted, seen)
        # one call to it may have just begun, and under Sentinel one more to learn of the new one
        assert seen.first_after(at + 0.2) < promoted + PATIENCE_S + 2 * 0.5
        stopping.set()
        await asyncio.gather(*tasks)
        await client.aclose()


async def test_a_primary_that_has_become_a_replica_is_left_at_its_first_refusal(sentinel: EmbeddedSentinel) -> None:
    """No connection breaks: only READONLY tells."""
    old = sentinel.primary()
    new = next(server for server in sentinel.servers if server is not old)
    client = connect(sentinel.url, connections=1)
    await client.execute_command("SET", KEY, 0)
    await asyncio.to_thread(sentinel.fail_over)
    await asyncio.to_thread(wait_until, lambda: sentinel.primary() is new, "it leads", 20)
    await asyncio.to_thread(wait_until, lambda: role(old) == "slave", "it follows", 20)
    failed, end = 0, time.monotonic() + 10
    while True:
        try:
            await client.execute_command("INCR", KEY)
            break
        except redis.ConnectionError:
            failed += 1
            assert time.monotonic() < end
    assert failed <= 1
    assert int(ask(new, "GET", KEY)) >= 1
    await client.aclose()
    await asyncio.to_thread(sentinel.wait_whole)


async def test_a_lost_sentinel_costs_nothing_and_all_of_them_only_new_connections(kind: str) -> None:
    with EmbeddedSentinel(choice_of(kind), replicas=0, down_after_ms=60_000) as sentinel:
        sentinel.sentinels[0].kill()
        client = connect(sentinel.url, connections=8)
        await asyncio.gather(*(client.execute_command("INCR", KEY) for _ in range(40)))
        for other in sentinel.sentinels[1:]:
            other.kill()
        assert await client.execute_command("INCR", KEY) == 41
        late = connect(sentinel.url, timeout_ms=500)
        with pytest.raises(redis.ConnectionError, match=f"No master found for '{SERVICE}'"):
            await late.execute_command("INCR", KEY)
        for watcher in sentinel.sentinels:
            await asyncio.to_thread(watcher.start)
        assert await late.execute_command("INCR", KEY) == 42
        await client.aclose()
        await late.aclose()
