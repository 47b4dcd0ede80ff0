"""GET /v1/events: what happens, as server-sent events."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scheduler.domain.ids import JobId, NodeId, checked_id, checked_job_id
from scheduler.engine.engine import Engine
from scheduler.engine.streaming import Stream, Told, positions_of
from scheduler.engine.subscription import Gap, Wanted
from scheduler.errors import BadInput, FleetError
from scheduler.http.access import caller_of
from scheduler.http.body import tenant_of

HEARTBEAT_S = 15
# A client that takes nothing for so long is let go: its place may be somebody else's.
STALLED_S = 60
KINDS_MAX = 32
_KIND = re.compile(r"^[a-z][a-z_]{0,63}\Z")


def _kinds(text: str) -> frozenset[str]:
    kinds = frozenset(kind for kind in text.split(",") if kind)
    if len(kinds) > KINDS_MAX or not all(map(_KIND.match, kinds)):
        raise BadInput("kind", f"must be up to {KINDS_MAX} kinds of a-z and _ with commas between")
    return kinds


def _wanted(request: Request) -> Wanted:
    asked = request.query_params
    job, node = asked.get("job"), asked.get("node")
    return Wanted(
        tenant_of(request),
        _kinds(asked.get("kind", "")),
        None if job is None else JobId(checked_job_id(job)),
        None if node is None else NodeId(checked_id("node", node)),
    )


def _after(request: Request, tags: Sequence[str]) -> dict[str, str]:
    """Where to go on. A client that connects again sends the header, and with it the query of its first time."""
    if header := request.headers.get("last-event-id"):
        return positions_of("Last-Event-ID", header, tags)
    query = request.query_params.get("after")
    return {} if query is None else positions_of("after", query, tags)


@lru_cache(maxsize=4_096)
def _framed(position: str, told: str) -> bytes:
    """One event as it goes to every client that is told of it."""
    return ServerSentEvent(told, id=position, sep="\n").encode()


def _chunk(named: Told) -> bytes:
    position, told = named
    if not isinstance(told, Gap):
        return _framed(position, told.json)
    # without an id: a client that comes again goes on from the last event that it has
    missed = msgspec.json.encode({"missed": told.missed}).decode()
    return ServerSentEvent(missed, event="gap", sep="\n").encode()


def _heartbeat() -> ServerSentEvent:
    return ServerSentEvent(comment="", sep="\n")


class _Stream(EventSourceResponse):
    """Gives its place back however it ends, also where it never began."""

    def __init__(self, stream: Stream, after: dict[str, str], unwatch: Callable[[], None]) -> None:
        self._stream = stream
        self._unwatch = unwatch
        super().__init__(
            self._chunks(after),
            sep="\n",
            ping=HEARTBEAT_S,
            ping_message_factory=_heartbeat,
            send_timeout=STALLED_S,
            # at a shutdown the subscription ends by itself; this is for a server that does not say so
            shutdown_grace_period=2,
        )

    async def _chunks(self, after: dict[str, str]) -> AsyncIterator[bytes]:
        try:
            async for batch in self._stream.told(after):
                yield b"".join(map(_chunk, batch))
        except FleetError:
            # Redis went away in the middle of a resume: the end makes the client resume again
            return

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            # the server drops the connection of an answer that is not complete
            return
        finally:
            self._unwatch()
            self._stream.close()


async def get_events(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    await engine.known()
    wanted, after = _wanted(request), _after(request, [shard.tag for shard in engine.shards])
    stream = await Stream.open(engine.shards, wanted)
    # who may not hear of it any more hears no more
    return _Stream(stream, after, engine.keyring.watch(caller_of(request), stream.end))
