"""Refuses placements at once while the replica has as many as it can decide in time: 503 with Retry-After."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.engine.engine import Engine
from scheduler.errors import Overrun
from scheduler.http.problems import problem_of, wants_msgpack

PATHS = frozenset({"/v1/jobs", "/v1/jobs:batch"})


class Shedding:
    """Stands before routing and the body, because a refusal must cost a fraction of a placement: three times as many
    requests as the replica can place leave it little time for each.
    """

    def __init__(self, app: ASGIApp, engine: Engine, shed: Callable[[], None]) -> None:
        self._app = app
        self._engine = engine
        self._shed = shed
        problem = problem_of(Overrun("this replica has as many placements under way as it can decide in time"))
        self._answers = {
            packed: _answer(encode(problem.document), kind, problem.headers())
            for packed, encode, kind in (
                (False, msgspec.json.encode, b"application/problem+json"),
                (True, msgspec.msgpack.encode, b"application/problem+msgpack"),
            )
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if (
            scope["type"] == "http"
            and self._engine.door.shut
            and scope["path"] in PATHS
            and scope["method"] == "POST"
        ):
            self._engine.door.refused += 1
            self._shed()
            return self._refuse(scope, send)
        return self._app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        for message in self._answers[wants_msgpack(Request(scope))]:
            await send(message)


def _answer(body: bytes, kind: bytes, headers: dict[str, str]) -> tuple[Message, Message]:
    told = [(b"content-length", b"%d" % len(body)), (b"content-type", kind)]
    told += [(name.encode(), value.encode()) for name, value in headers.items()]
    return (
        {"type": "http.response.start", "status": 503, "headers": told},
        {"type": "http.response.body", "body": body},
    )
