"""The client for programs without asyncio; `AsyncClient` is the same, awaited."""

import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx
from httpx_sse import EventSource

from scheduler import tracing
from scheduler.client import calls
from scheduler.client.attempts import ANSWER_S, Attempts
from scheduler.client.calls import Call
from scheduler.client.events import TIMEOUT, Event, Following, Gap
from scheduler.client.following import PAUSE_S, POLL_MS, Awaited
from scheduler.client.newjob import NewJob
from scheduler.client.urls import Urls
from scheduler.domain.answers import ExplainAnswer, PlacementAnswer, StartAnswer
from scheduler.domain.job import Outcome
from scheduler.domain.pool import Pool
from scheduler.domain.views import JobView, NodeView, PoolView
from scheduler.errors import FleetError

T = TypeVar("T")


class Client:
    """Speaks to any of several replicas. May be used by many threads; close it, or use it as a context.

    Each call ends within `deadline_s`. What is safe to repeat is tried again at the other addresses until then.
    Each wait for the network is bounded by itself: an answer that comes drop by drop may take longer. `AsyncClient`
    cuts that off, too.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        tenant: str | None = None,
        api_key: str | None = None,
        deadline_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._urls = Urls(urls)
        self._deadline_s = deadline_s
        self._http = httpx.Client(headers={**calls.headers(tenant, api_key), **(headers or {})}, limits=calls.LIMITS)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[T], deadline_s: float | None) -> T:
        attempts = Attempts(call, self._urls, self._deadline_s if deadline_s is None else deadline_s)
        while True:
            turn = attempts.turn()
            time.sleep(turn.pause_s)
            try:
                response = self._http.request(
                    call.method,
                    turn.url + call.path,
                    content=call.body,
                    params=dict(call.query),
                    headers=tracing.headers(),
                    timeout=turn.timeout_s,
                )
            except httpx.TransportError as error:
                attempts.failed(turn, error)
                continue
            told = attempts.answered(turn, response.status_code, response.headers, response.content)
            if told is not None:
                return told[0]

    def place(self, job: NewJob, *, patient: bool = True, deadline_s: float | None = None) -> PlacementAnswer:
        """Put a job on a node; Refused where none can take it.

        A patient call asks again, as often as the refusal's Retry-After and the deadline allow.
        """
        return self._ask(calls.place(job, patient=patient), deadline_s)

    def place_batch(
        self, jobs: Sequence[NewJob], *, deadline_s: float | None = None
    ) -> list[PlacementAnswer | FleetError]:
        """Up to 1,000 jobs, each with an outcome of its own: what `place` would answer, or would raise."""
        return self._ask(calls.place_batch(jobs), deadline_s)

    def job(self, job: str, *, wait_ms: int = 0, deadline_s: float | None = None) -> JobView:
        """The job as it is, or with wait_ms (up to 60,000) as soon as it has ended."""
        longer = self._deadline_s + wait_ms / 1000 if deadline_s is None else deadline_s
        return self._ask(calls.job(job, wait_ms), longer)

    def wait(self, job: str, *, deadline_s: float = 600.0) -> JobView:
        """The job once it has ended, in whatever way; Overrun where it has not by the deadline."""
        awaited = Awaited(job, deadline_s)
        while True:
            left_s = awaited.left_s()
            asked_ms = min(int(left_s * 1000), POLL_MS)
            view = self._ask(calls.job(job, asked_ms), left_s + ANSWER_S)
            if awaited.ended(view):
                return view
            time.sleep(PAUSE_S)

    def start(self, job: str, fence: int, *, deadline_s: float | None = None) -> StartAnswer:
        """Begin a job that was placed with `deliver="direct"`; Fenced where this attempt is over."""
        return self._ask(calls.start(job, fence), deadline_s)

    def finish(
        self, job: str, fence: int, outcome: Outcome, result: str = "", *, deadline_s: float | None = None
    ) -> str:
        """End the attempt and free its slot: `finished`, or `duplicate` where that had been done."""
        return self._ask(calls.finish(job, fence, outcome, result), deadline_s)

    def cancel(self, job: str, *, deadline_s: float | None = None) -> str:
        """`cancelled`, or `duplicate` where the job had ended before."""
        return self._ask(calls.cancel(job), deadline_s)

    def explain(self, job: NewJob, *, deadline_s: float | None = None) -> ExplainAnswer:
        """What the job would be told, and why; nothing is placed."""
        return self._ask(calls.explain(job), deadline_s)

    def nodes(self, *, deadline_s: float | None = None) -> Iterator[NodeView]:
        """Every node that the tenant may see, by id; read in pages, each within the deadline."""
        after: str | None = ""
        while after is not None:
            page = self._ask(calls.nodes(after), deadline_s)
            yield from page.nodes
            after = page.cursor

    def pools(self, *, deadline_s: float | None = None) -> list[PoolView]:
        return self._ask(calls.pools(), deadline_s)

    def pool(self, name: str, *, deadline_s: float | None = None) -> PoolView:
        return self._ask(calls.pool(name), deadline_s)

    def put_pool(self, name: str, pool: Pool, *, deadline_s: float | None = None) -> PoolView:
        return self._ask(calls.put_pool(name, pool), deadline_s)

    def delete_pool(self, name: str, *, deadline_s: float | None = None) -> None:
        """Take a pool out. Never sent twice: after NoReplica look whether it is gone."""
        self._ask(calls.delete_pool(name), deadline_s)

    def events(
        self,
        *,
        kinds: Collection[str] = (),
        job: str | None = None,
        node: str | None = None,
        after: str | None = None,
        patience_s: float = 60.0,
    ) -> Generator[Event | Gap, None, None]:
        """What happens from now on, or behind the id `after`; a lost connection is resumed at another replica.

        NoReplica once none has said anything for patience_s. Close the generator to be done with it.
        """
        following = Following(self._urls, kinds, job, node, after, patience_s)
        while True:
            turn = following.turn()
            time.sleep(turn.pause_s)
            try:
                with self._http.stream(
                    "GET", turn.url + calls.EVENTS, params=following.query(), timeout=TIMEOUT
                ) as response:
                    if response.status_code != httpx.codes.OK:
                        following.refused(turn, response.status_code, response.read())
                        continue
                    if (gap := following.opened()) is not None:
                        yield gap
                    for sse in EventSource(response).iter_sse():
                        if (told := following.heard(sse)) is not None:
                            yield told
                following.ended(turn)
            except httpx.TransportError as error:
                following.ended(turn, error)
