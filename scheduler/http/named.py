"""Gives each request an id, which its answer and every record under it have; logs each answer where asked to."""

import logging
import os
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.domain.traceparent import traceparent_in
from scheduler.http.problems import headers
from scheduler.logs import Line, bind

# What proxies and clients make of UUIDs, ULIDs, hexadecimal and base64; nothing that could end a line or a value.
_GIVEN = re.compile(rb"[A-Za-z0-9._:=+/-]{1,128}")
_PATH_SHOWN = 256
log = logging.getLogger("fleet.access")


class Named:
    """Stands around everything that can refuse, so that every answer says which request it is of."""

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._logs = access_log
        if access_log:
            # it is its own switch, whatever else is logged
            log.setLevel(logging.INFO)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = headers(scope)
        name = given.get(b"x-request-id", b"")
        if b"traceparent" in given:
            scope["traceparent"] = traceparent_in(given[b"traceparent"].decode("latin-1"))
        # a bad one is not told of anywhere: it may be what somebody wants to see in a log
        if not name or _GIVEN.fullmatch(name) is None:
            # a number that rose would tell one tenant how much the others ask
            name = os.urandom(8).hex().encode()
        scope["request_id"] = text = name.decode()
        bind(request_id=text)
        status = 500

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # a copy: some answers are made once for all requests
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            await send(message)

        if not self._logs:
            await self._app(scope, receive, named)
            return
        started = time.perf_counter()
        try:
            await self._app(scope, receive, named)
        finally:
            # without the query, which is the caller's own
            took_ms = round((time.perf_counter() - started) * 1000, 3)
            shown = scope["path"][:_PATH_SHOWN]
            log.info(Line("request_answered", method=scope["method"], path=shown, status=status, took_ms=took_ms))
