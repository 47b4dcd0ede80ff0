"""Long polls: whoever waits is woken by the end, whenever it came, and no waiter asks Redis while it waits."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from scheduler.domain.ids import JobId, Tenant
from scheduler.domain.job import JobState
from scheduler.domain.views import JobView
from scheduler.engine.reading import PAGE, JobReads
from scheduler.engine.waking import Waker
from scheduler.errors import ServerUnavailable
from scheduler.store.events import Event
from scheduler.store.views import Elsewhere

DEFAULT = Tenant("default")


def view(job: JobId, state: JobState, tenant: str = "default") -> JobView:
    return JobView(job, state, tenant, None, None, None, 1, None, 5, "a", None, None, 1, None, None)


Found = JobView | Elsewhere | None


class Redis:
    """Jobs in memory, in the place of Views; counts round trips and may stop between question and answer."""

    def __init__(self) -> None:
        self.states: dict[JobId, JobState] = {}
        self.pages: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.down = False

    async def jobs(self, jobs: Sequence[JobId]) -> list[Found]:
        self.pages.append(len(jobs))
        if self.down:
            raise ServerUnavailable("down")
        found: list[Found] = [view(job, self.states[job]) if job in self.states else None for job in jobs]
        await asyncio.sleep(0)
        self.meanwhile()
        return found

    async def ended(self, jobs: Sequence[JobId]) -> list[JobId]:
        return [job for job in jobs if job not in self.states or self.states[job].ended]


class Following:
    """In the place of a Follower: the test tells the events."""

    def __init__(self) -> None:
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1


class Stage:
    def __init__(self, count: int = 1) -> None:
        self.redis = Redis()
        views: Any = self.redis
        follower: Any = Following()
        self.reads = JobReads(views)
        self.waker = Waker(follower, self.reads, views)
        self.jobs = [JobId(f"j{number}") for number in range(count)]
        self.redis.states = dict.fromkeys(self.jobs, JobState.RUNNING)

    def end(self, *jobs: JobId) -> list[Event]:
        self.redis.states.update(dict.fromkeys(jobs, JobState.SUCCEEDED))
        return [Event("1-1", "job_succeeded", {"job": job}) for job in jobs]

    async def waiting(self, wait_ms: int = 60_000) -> "list[asyncio.Task[Found]]":
        """A waiter for each job, all of which have looked."""
        tasks = [asyncio.create_task(self.waker.wait(job, DEFAULT, wait_ms)) for job in self.jobs]
        async with asyncio.timeout(5):
            while sum(self.redis.pages) < len(tasks) or self.reads._reads:
                await asyncio.sleep(0)
        return tasks


async def states(tasks: "list[asyncio.Task[Found]]") -> set[JobState | None]:
    async with asyncio.timeout(5):
        return {found.state if isinstance(found, JobView) else None for found in await asyncio.gather(*tasks)}


async def test_a_thousand_waiters_share_their_reads() -> None:
    stage = Stage(1_000)
    tasks = await stage.waiting()
    assert len(stage.redis.pages) == 1_000 // PAGE
    stage.redis.pages.clear()
    await stage.waker.heard(stage.end(*stage.jobs))
    assert await states(tasks) == {JobState.SUCCEEDED}
    assert len(stage.redis.pages) == 1_000 // PAGE
    assert (stage.waker.count, dict(stage.waker._waiters)) == (0, {})


async def test_an_end_between_the_look_and_its_answer_wakes_the_waiter() -> None:
    stage = Stage()
    told: list[Event] = []

    def meanwhile() -> None:
        if not told:
            told.extend(stage.end(*stage.jobs))

    stage.redis.meanwhile = meanwhile
    waiting = asyncio.create_task(stage.waker.wait(stage.jobs[0], DEFAULT, 60_000))
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0)
    await stage.waker.heard(told)  # before the waiter runs on with its look, which was too early to see the end
    assert await states([waiting]) == {JobState.SUCCEEDED}


async def test_after_a_gap_every_job_waited_for_is_asked_for_once_and_those_that_ended_wake() -> None:
    stage = Stage(3)
    tasks = await stage.waiting()
    stage.end(stage.jobs[0])
    del stage.redis.states[stage.jobs[1]]
    await stage.waker.missed()
    assert await states(tasks[:2]) == {JobState.SUCCEEDED, None}
    assert not tasks[2].done()
    tasks[2].cancel()


async def test_an_event_that_is_no_end_leaves_the_waiter_waiting() -> None:
    stage = Stage()
    (task,) = await stage.waiting()
    await stage.waker.heard([Event("1-1", "job_retried", {"job": stage.jobs[0]})])
    await stage.waker.heard([Event("1-1", "job_failed", {"job": stage.jobs[0]})])  # of an attempt, say
    async with asyncio.timeout(5):
        while sum(stage.redis.pages) < 2 or stage.reads._reads:
            await asyncio.sleep(0)
    assert not task.done()
    await stage.waker.heard(stage.end(stage.jobs[0]))
    assert await states([task]) == {JobState.SUCCEEDED}


async def test_a_wait_ends_at_its_time_with_the_job_as_it_is() -> None:
    assert await states(await Stage().waiting(wait_ms=1)) == {JobState.RUNNING}


@pytest.mark.parametrize("tenant", ["default", "other"])
async def test_what_is_not_there_to_wait_for_is_answered_at_once(tenant: str) -> None:
    stage = Stage()
    job = JobId("unknown") if tenant == "default" else stage.jobs[0]
    async with asyncio.timeout(5):
        found = await stage.waker.wait(job, Tenant(tenant), 60_000)
    assert found is None or found.tenant != tenant


async def test_a_replica_that_stops_answers_everybody_with_the_job_as_it_is() -> None:
    stage = Stage(2)
    tasks = await stage.waiting()
    stage.waker.release()
    assert await states(tasks) == {JobState.RUNNING}
    assert await states(await stage.waiting()) == {JobState.RUNNING}


async def test_a_read_that_fails_is_told_to_each_and_the_next_one_goes_through() -> None:
    stage = Stage(2)
    stage.redis.down = True
    asked = [asyncio.create_task(stage.reads.job(job)) for job in stage.jobs]
    await asyncio.sleep(0)
    asked[0].cancel()
    failed = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in failed] == [asyncio.CancelledError, ServerUnavailable]
    stage.redis.down = False
    found = await stage.reads.job(stage.jobs[0])
    assert found is not None
