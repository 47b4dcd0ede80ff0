"""The one reader: nothing passes it unseen without its listeners being told so."""

import asyncio
from collections.abc import Sequence
from typing import Self

import pytest

from scheduler.engine import following
from scheduler.engine.following import Follower
from scheduler.errors import ServerUnavailable
from scheduler.store.events import PAGE, START, Event, order


class Stream:
    """A stream in memory, in the place of an EventReader."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.added = asyncio.Event()
        self.down = False
        self.reads = 0

    def add(self, *numbers: int) -> None:
        self.events += [Event(f"1000-{number}", "job_failed", {}) for number in numbers]
        self.added.set()

    async def span(self) -> tuple[str, str]:
        self._check()
        return (self.events[0].position, self.events[-1].position) if self.events else (START, START)

    async def after(self, position: str, block_ms: int) -> list[Event]:
        self.reads += 1
        self._check()
        if not (found := self._behind(position)):
            self.added.clear()
            try:
                await asyncio.wait_for(self.added.wait(), min(block_ms, 50) / 1000)
            except TimeoutError:
                return []
            self._check()
            found = self._behind(position)
        return found

    def _behind(self, position: str) -> list[Event]:
        return [event for event in self.events if order(event.position) > order(position)][:PAGE]

    def _check(self) -> None:
        if self.down:
            raise ServerUnavailable("down")


class Ear:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.listens = True
        self.told: list[int | str] = []
        self.fails = 0
        self.more = asyncio.Event()

    async def heard(self, events: Sequence[Event]) -> None:
        self.told += [int(event.position.split("-")[1]) for event in events]
        self.more.set()

    async def missed(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ServerUnavailable("down")
        self.told.append("missed")
        self.more.set()

    async def until(self, *told: int | str) -> None:
        async with asyncio.timeout(5):
            while self.told[-len(told) :] != list(told):
                self.more.clear()
                await self.more.wait()


class Stage:
    """A follower with one listener; `epoch` may be changed."""

    def __init__(self) -> None:
        self.stream, self.ear, self.epoch = Stream(), Ear(), "one"
        self.follower = Follower(self.stream, lambda: self.epoch)  # type: ignore[arg-type]
        self.follower.add(self.ear)

    async def __aenter__(self) -> Self:
        await self.follower.placed()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.follower.close()


async def test_a_reader_begins_with_what_it_cannot_know_and_then_tells_each_event_once() -> None:
    async with Stage() as stage:
        stage.stream.add(1, 2)
        await stage.ear.until("missed", 1, 2)
        stage.stream.add(3)
        await stage.ear.until("missed", 1, 2, 3)


async def test_nobody_reads_where_nobody_listens() -> None:
    async with Stage() as stage:
        stage.ear.listens = False
        task = stage.follower._task
        assert task is not None
        await asyncio.wait_for(task, 5)
        reads = stage.stream.reads
        stage.stream.add(1)
        stage.ear.listens = True
        await stage.follower.placed()
        assert stage.stream.reads <= reads + 1
        stage.stream.add(2)
        await stage.ear.until("missed", 2)  # 1 came while nobody was told: the new beginning says that


async def test_a_failure_costs_nothing_that_the_stream_still_has() -> None:
    async with Stage() as stage:
        stage.stream.add(1)
        await stage.ear.until("missed", 1)
        stage.stream.down = True
        stage.stream.add(2)
        await asyncio.wait_for(_failed(stage), 5)
        stage.stream.down = False
        await stage.ear.until("missed", 1, 2)


async def _failed(stage: Stage) -> None:
    while not stage.follower._doubtful:
        await asyncio.sleep(0)


async def test_a_trim_in_front_of_the_reader_is_told_before_what_is_left() -> None:
    async with Stage() as stage:
        stage.stream.add(1)
        await stage.ear.until("missed", 1)
        stage.stream.down = True
        stage.stream.add(2)
        await asyncio.wait_for(_failed(stage), 5)
        stage.stream.events.clear()
        stage.stream.add(5, 6)
        stage.stream.down = False
        await stage.ear.until("missed", 1, "missed", 5, 6)


async def test_a_stream_that_went_back_is_told_and_read_from_where_it_is() -> None:
    async with Stage() as stage:
        stage.stream.add(7)
        await stage.ear.until("missed", 7)
        stage.stream.down = True
        stage.stream.add(8)
        await asyncio.wait_for(_failed(stage), 5)
        stage.stream.events.clear()
        stage.stream.down = False
        await stage.ear.until("missed", 7, "missed")
        stage.stream.add(3)
        await stage.ear.until("missed", 3)


async def test_data_that_were_replaced_under_the_same_address_are_told() -> None:
    async with Stage() as stage:
        stage.stream.add(1)
        await stage.ear.until("missed", 1)
        stage.epoch = "two"
        await stage.ear.until("missed", 1, "missed")
        stage.stream.add(2)
        await stage.ear.until("missed", 2)


async def test_the_first_epoch_that_is_known_is_no_change() -> None:
    stage = Stage()
    stage.epoch = ""
    async with stage:
        stage.epoch = "one"
        stage.stream.add(1)
        await stage.ear.until("missed", 1)


async def test_a_reader_that_is_pages_behind_tells_all_of_them() -> None:
    async with Stage() as stage:
        stage.stream.add(*range(1, 2 * PAGE + 10))
        await stage.ear.until(2 * PAGE + 9)
        assert stage.ear.told == ["missed", *range(1, 2 * PAGE + 10)]


async def test_a_gap_that_could_not_be_told_is_told_again() -> None:
    stage = Stage()
    stage.ear.fails = 2
    async with stage:
        assert stage.ear.told == ["missed"]


async def test_without_redis_there_is_no_place_in_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "READY_S", 0.05)
    stage = Stage()
    stage.stream.down = True
    with pytest.raises(ServerUnavailable):
        await stage.follower.placed()
    await stage.follower.close()
