"""Connections to the primary that the sentinels name, under the rules of `client.py`."""

from collections.abc import Mapping
from copy import copy
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from scheduler.store.address import Address


class _NoAnswer(NotConnected):
    def __repr__(self) -> str:
        """What the error about all sentinels says of this one: the reason."""
        return str(self)


class _OneSentinel(Redis):
    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except (NotConnected, TimedOut) as error:
            raise _NoAnswer(str(error)) from error

    def __repr__(self) -> str:
        """What the error about all sentinels calls this one: its place, and not all of its options."""
        where = self.connection_pool.connection_kwargs
        return f"{where['host']}:{where['port']}"


class _Sentinels(Sentinel):
    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Each look goes over a list of its own: it puts who answered first, and two on one list lose a sentinel."""
        look = copy(self)
        look.sentinels = [*self.sentinels]
        found = await Sentinel.discover_master(look, service_name)
        self.sentinels = look.sentinels
        return cast("tuple[str, int]", found)


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Finds the primary as the one, and waits for a free connection as the other."""


def sentinel_pool(address: Address, connections: int, seconds: float, sockets: Mapping[str, Any]) -> SentinelPool:
    """At most so many connections to the primary of the address's service; each new one asks the sentinels first."""
    # A silent sentinel must leave time for the others.
    patience = seconds / len(address.hosts)
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    watching: dict[str, Any] = {
        **address.sentinel_options,
        **({"ssl": True, **address.tls_options} if address.tls else {}),
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        **once,
    }
    sentinels = _Sentinels([])  # type: ignore[no-untyped-call]
    sentinels.sentinels = [_OneSentinel(host=host, port=port, **watching) for host, port in address.hosts]
    return SentinelPool(  # type: ignore[no-untyped-call]
        address.service,
        sentinels,
        max_connections=connections,
        timeout=seconds,
        ssl=address.tls,
        **once,
        **sockets,
        **address.options,
    )
