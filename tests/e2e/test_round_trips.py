"""One round trip to Redis for each placement, counted by Redis's own MONITOR."""

import asyncio
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
import redis

from scheduler.dev.sentinel import EmbeddedSentinel
from tests.conftest import Topology
from tests.e2e.conftest import place, register
from tests.sharded import Shards

pytestmark = pytest.mark.one_shard("counts what reaches one server, with MONITOR")
PLACEMENTS = 100
# HGET: which shards there are, once a second
BACKGROUND = {"FCALL fleet1_mirror_read", "FCALL fleet1_reap", "FCALL fleet1_library_read", "INFO", "HGET"}
SENTINELS = {"PING", "PUBLISH"}  # of their own
BEGIN, END = "ECHO the-recording-begins", "ECHO the-recording-ends"


def recorded(client: redis.Redis, act: Callable[[], None]) -> Counter[str]:
    """What clients sent while act ran, by command and function; what functions did themselves is left out."""
    seen: Counter[str] = Counter()
    with client.monitor() as monitor:
        client.execute_command(*BEGIN.split())  # what opens this connection comes before it
        act()
        client.execute_command(*END.split())
        for line in monitor.listen():
            command = str(line["command"])
            if command == END:
                return seen
            if command == BEGIN:
                seen.clear()
            elif line["client_type"] != "lua":
                words = command.split(maxsplit=2)
                seen[" ".join(words[:2] if words[0].startswith("FCALL") else words[:1])] += 1
    raise AssertionError("MONITOR ended")


def test_each_placement_is_one_round_trip(
    topology: Topology, client: redis.Redis, shards: Shards, http: httpx.Client
) -> None:
    register(shards, "n1", "asr:zh")
    assert place(http, "asr:zh").status_code == 201  # its connections are open now

    def one_after_the_other() -> None:
        for _ in range(PLACEMENTS):
            assert place(http, "asr:zh").status_code == 201

    seen = recorded(client, one_after_the_other)
    print(f"{PLACEMENTS} placements: {dict(seen)}")
    assert seen.pop("FCALL fleet1_job_claim") == PLACEMENTS
    assert set(seen) <= BACKGROUND | (SENTINELS if isinstance(topology, EmbeddedSentinel) else set())


def test_placements_at_once_share_round_trips(client: redis.Redis, shards: Shards, http: httpx.Client) -> None:
    register(shards, "n1", "asr:zh")

    async def burst() -> list[int]:
        limits = httpx.Limits(max_connections=PLACEMENTS)
        async with httpx.AsyncClient(base_url=http.base_url, timeout=20, limits=limits) as many:
            body = {"requires": ["asr:zh"], "deliver": "direct"}
            answers = await asyncio.gather(*(many.post("/v1/jobs", json=body) for _ in range(PLACEMENTS)))
        return [answer.status_code for answer in answers]

    def at_once() -> None:
        assert set(asyncio.run(burst())) == {201}

    calls = recorded(client, at_once)["FCALL fleet1_job_claim"]
    print(f"{PLACEMENTS} placements at once: {calls} calls")
    assert 0 < calls < PLACEMENTS
