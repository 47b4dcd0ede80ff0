"""Connections that are safe for claims: no hidden retries, a bound on their number, a deadline on every wait."""

from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scheduler.errors import BadInput

_SCHEMES = ("redis", "rediss", "unix")


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
    return Redis.from_pool(pool)


def connect_blocking(url: str, *, block_ms: int) -> Redis:
    """One connection for blocking reads of up to block_ms, with as much again before it counts as dead."""
    client = connect(url, connections=2, timeout_ms=2 * block_ms + 1_000)
    client.connection_pool.connection_kwargs["socket_connect_timeout"] = 2.0
    return client
