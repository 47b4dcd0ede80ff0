"""How a replica listens; also what a benchmark's baseline must share with it to be one."""

import logging
import resource
import time
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from scheduler.http.connections import Connections, Limits
from scheduler.http.protocol import Guarded
from scheduler.settings import Settings

# Files that a replica opens beside its connections: those to Redis, and what the process needs itself.
FILES_BESIDE = 512
# What uvicorn says of each request that is none; nobody must be able to fill a log.
_SAID = ("Invalid HTTP request received.", "Unsupported upgrade request.")
_SAID_EVERY_S = 10


_last_said = dict.fromkeys(_SAID, float("-inf"))


def _sparse(record: logging.LogRecord) -> bool:
    """Lets each of those lines through once in a while."""
    now = time.monotonic()
    if now - _last_said.get(str(record.msg), float("-inf")) < _SAID_EVERY_S:
        return False
    if record.msg in _last_said:
        _last_said[record.msg] = now
    return True


def connections_within(asked: int) -> int:
    """As many connections as were asked for, or as the process may have; raises its own limit of open files first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asked if hard == resource.RLIM_INFINITY else min(asked, max(hard - FILES_BESIDE, hard // 2))


def limits_of(settings: Settings) -> Limits:
    return Limits(
        connections=settings.connections,
        arrival_s=settings.arrival_ms / 1_000,
        idle_s=settings.idle_ms / 1_000,
        body_bytes=settings.body_max_bytes,
    )


def listening(app: ASGIApp, host: str, port: int, limits: Limits | None = None) -> uvicorn.Config:
    """One process, one port, the quickest loop and parser there are. Logs go where the process has them go."""
    guarded: Any = partial(Guarded, table=Connections(limits or Limits()))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=guarded,
        ws="none",
        access_log=False,
        # no request is judged by where it came from
        proxy_headers=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=5,
        backlog=2_048,
    )
    logging.getLogger("uvicorn.error").addFilter(_sparse)
    return config
