"""The event stream of both clients: in order, filtered, and resumed at another replica without a loss."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.client import AsyncClient, BadInput, Client, Event, FleetError, Gap, NewJob, NoReplica
from scheduler.dev.server import free_port
from tests.client.conftest import Replica, Replicas

# replicas start, die and are waited for
pytestmark = pytest.mark.slow
WORK = NewJob(requires=["work"], deliver="direct")


class Heard:
    """What a stream in a thread of its own has told so far."""

    def __init__(self, urls: list[str], kind: str, **options: Any) -> None:
        self.told: list[Event | Gap] = []
        self.error: Exception | None = None
        self._urls, self._options = urls, options
        listen = self._sync if kind == "sync" else lambda: asyncio.run(self._async())
        self._thread = threading.Thread(target=self._guarded, args=(listen,), daemon=True)
        self._thread.start()

    def _guarded(self, listen: Callable[[], None]) -> None:
        try:
            listen()
        except FleetError as error:
            self.error = error

    def _sync(self) -> None:
        with Client(self._urls) as client:
            for told in client.events(patience_s=3, **self._options):
                self.told.append(told)

    async def _async(self) -> None:
        async with AsyncClient(self._urls) as client:
            async for told in client.events(patience_s=3, **self._options):
                self.told.append(told)

    @property
    def jobs(self) -> list[str]:
        return [told.fields["job"] for told in self.told if isinstance(told, Event) and "job" in told.fields]

    def until(self, condition: Callable[[], object], what: str, deadline_s: float = 15) -> None:
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"not within {deadline_s} s: {what}; {self.error!r} {self.told}"
            time.sleep(0.01)

    def ended(self) -> Exception | None:
        self._thread.join(15)
        assert not self._thread.is_alive()
        return self.error


def finish(replica: Replica, count: int) -> list[str]:
    """Place and finish so many jobs; answers their ids."""
    with Client(replica.url) as client:
        placed = [client.place(WORK).job for _ in range(count)]
        for job in placed:
            assert client.finish(job.id, job.fence, "succeeded") == "finished"
        return [job.id for job in placed]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_is_resumed_at_another_replica_behind_the_last_event(kind: str, replicas: Replicas) -> None:
    first, second = replicas(2)
    first.register("n1")
    # the turns begin with the second address
    heard = Heard([first.url, second.url], kind, kinds=["job_succeeded"], after="0")
    jobs = finish(first, 5)
    heard.until(lambda: len(heard.jobs) == 5, "the first events")
    second.kill()
    jobs += finish(first, 5)
    heard.until(lambda: len(heard.jobs) >= 10, "the events behind the loss")
    # in the order in which jobs were finished, each once, and of no other kind
    assert heard.jobs == jobs
    assert {told.kind for told in heard.told if isinstance(told, Event)} == {"job_succeeded"}
    first.kill()
    assert isinstance(heard.ended(), NoReplica)


def test_a_stream_that_was_lost_before_its_first_event_tells_of_a_gap(replicas: Replicas) -> None:
    first, second = replicas(2)
    first.register("n1")
    heard = Heard([first.url, second.url], "sync", kinds=["job_succeeded"])
    # it hears from now on, and when that is nobody can see from here: the connection is what shows it
    time.sleep(0.5)
    second.kill()
    heard.until(lambda: heard.told, "the gap")
    assert heard.told == [Gap(None)]
    assert finish(first, 1)
    heard.until(lambda: len(heard.jobs) == 1, "the first event")
    first.kill()
    assert isinstance(heard.ended(), NoReplica)


def test_a_wrong_filter_and_dead_addresses_end_the_stream(replicas: Replicas) -> None:
    (replica,) = replicas(1)
    with Client(replica.url) as client, pytest.raises(BadInput, match="kind"):
        next(client.events(kinds=["NOT A KIND"]))
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(NoReplica):
        next(client.events(patience_s=0.3))
