"""Connections that are safe for claims: no hidden retries, a bound on their number, a deadline on every wait."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scheduler.errors import BadInput

_SCHEMES = ("redis", "rediss", "unix")


@contextmanager
def heeding_cancel() -> Iterator[None]:
    """Raise CancelledError at the end if the task was cancelled meanwhile and nobody told it.

    redis-py sends under asyncio.wait_for, and Python 3.11's swallows a cancel that comes as the send ends: a task
    that asks Redis in a loop would then outlive its cancel.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


class _Client(Redis):
    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with heeding_cancel():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


def connect(url: str, *, connections: int = 16, timeout_ms: int = 1_000) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://` that answers bytes and connects on first use.

    Every attempt, and the wait for a free connection, ends within timeout_ms. Nothing is retried here: who knows
    that a call is safe to repeat repeats it, within a deadline of its own.
    """
    if urlsplit(url).scheme not in _SCHEMES:
        raise BadInput("REDIS_URL", f"must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    seconds = timeout_ms / 1000
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=seconds,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
        )
    except ValueError as error:
        raise BadInput("REDIS_URL", f"is not a Redis address: {error}") from error
    return _Client.from_pool(pool)


def connect_blocking(url: str, *, block_ms: int) -> Redis:
    """One connection for blocking reads of up to block_ms, with as much again before it counts as dead."""
    client = connect(url, connections=2, timeout_ms=2 * block_ms + 1_000)
    client.connection_pool.connection_kwargs["socket_connect_timeout"] = 2.0
    return client
