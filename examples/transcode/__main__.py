"""A thousand small jobs with priorities wait in the queue for few slots; some handlers fail, and are tried again."""

import asyncio
import json
import logging
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.stage import nodes, replicas, server
from scheduler.agent import Job, NodeConfig
from scheduler.client import AsyncClient, Event, FleetError, NewJob, PlacementAnswer
from scheduler.domain.ids import NodeId, Token

JOBS, CHUNK = 1_000, 100
KINDS = {"trailer": 9, "episode": 5, "archive": 1}
NODES, SLOTS = 4, 8
FAIL_EACH = 20
_tried: set[int] = set()


def fleet() -> list[NodeConfig]:
    return [
        NodeConfig(id=NodeId(f"transcoder-{i}"), slots=SLOTS, capabilities=(Token("ffmpeg"),))
        for i in range(1, NODES + 1)
    ]


async def transcode(job: Job) -> str:
    """A stand-in for ffmpeg. Each twentieth file breaks it the first time."""
    number = int(json.loads(job.payload)["file"])
    await asyncio.sleep(0.02)
    if number % FAIL_EACH == 0 and number not in _tried:
        _tried.add(number)
        raise RuntimeError("the encoder crashed")
    return f"{number}.mp4"


def jobs() -> list[NewJob]:
    """All of them, their kinds mixed; the ids say which, so that sending one twice makes no second job."""
    names = list(KINDS)
    return [
        NewJob(
            id=f"{names[i % 3]}-{i}",
            requires=["ffmpeg"],
            priority=KINDS[names[i % 3]],
            payload={"file": i},
            wait_ms=120_000,
            retry_failed=True,
        )
        for i in range(JOBS)
    ]


async def submit(client: AsyncClient, waiting: Sequence[NewJob]) -> None:
    """Put every job into the queue, a hundred in one call; what is refused for now is sent again."""
    left = list(waiting)
    while left:
        chunk, left = left[:CHUNK], left[CHUNK:]
        told = await client.place_batch(chunk)
        again = [job for job, outcome in zip(chunk, told, strict=True) if not isinstance(outcome, PlacementAnswer)]
        if again:
            errors: Counter[str] = Counter(
                type(outcome).__name__ for outcome in told if isinstance(outcome, FleetError)
            )
            print(f"{len(again)} jobs are to be sent again: {dict(errors)}")
            await asyncio.sleep(0.5)
        left += again


async def follow(client: AsyncClient, progress: Progress) -> tuple[list[str], Counter[str], int]:
    """Hear of every end: the jobs in the order in which they ended, how, and how many attempts failed."""
    bars = {name: progress.add_task(name, total=len(range(i, JOBS, 3))) for i, name in enumerate(KINDS)}
    order: list[str] = []
    ends: Counter[str] = Counter()
    retried = 0
    events = client.events(kinds=("job_succeeded", "job_failed", "job_expired", "job_retried"), after="0")
    async for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"events are missing: {event}")
        if event.kind == "job_retried":
            retried += 1
            continue
        name = str(event.fields["job"]).partition(":")[2]
        progress.advance(bars[name.partition("-")[0]])
        order.append(name)
        ends[event.kind] += 1
        if len(order) == JOBS:
            break
    return order, ends, retried


async def run(redis_url: str, urls: list[str]) -> bool:
    started = time.monotonic()
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with AsyncClient(urls) as client, nodes(redis_url, fleet(), transcode):
        with Progress(*columns, console=Console()) as progress:
            async with asyncio.timeout(50), asyncio.TaskGroup() as group:
                following = group.create_task(follow(client, progress))
                group.create_task(submit(client, jobs()))
        order, ends, retried = following.result()
    took_s = time.monotonic() - started
    print(f"\n{JOBS} jobs on {NODES} nodes of {SLOTS} slots in {took_s:.1f} s: {dict(ends)}, {retried} tried again")
    places = {kind: [place for place, name in enumerate(order, 1) if name.startswith(kind)] for kind in KINDS}
    middles = {kind: statistics.median(found) for kind, found in places.items()}
    for kind, middle in middles.items():
        print(f"{kind:<8} priority {KINDS[kind]}: half of them had ended by place {middle:.0f} of {JOBS}")
    in_order = list(middles.values()) == sorted(middles.values())
    all_well = ends == {"job_succeeded": JOBS} and len(set(order)) == JOBS and retried >= JOBS // FAIL_EACH
    print(f"each job ended once and well: {'yes' if all_well else 'NO'}")
    return in_order and all_well


def main() -> int:
    # each crash is on purpose here
    logging.getLogger("fleet.agent").setLevel(logging.ERROR)
    with server() as redis_url, replicas(redis_url, 2) as urls:
        return 0 if asyncio.run(run(redis_url, urls)) else 1


if __name__ == "__main__":
    sys.exit(main())
