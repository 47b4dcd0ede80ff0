"""Connections that are safe for claims: no hidden retries, a bound on their number, a deadline on every wait."""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scheduler.store.address import Address, read_address
from scheduler.store.cluster import ClusterClient
from scheduler.store.guarding import heeding_cancel
from scheduler.store.sentinel import SentinelPool, sentinel_pool

__all__ = ["Client", "ClusterClient", "ServerClient", "connect", "connect_blocking", "heeding_cancel"]


class ServerClient(Redis):
    """A client of one primary, which Sentinel may move; its surface for primaries is ClusterClient's."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with heeding_cancel():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def primaries(self) -> list[str]:
        """The names of all primaries, for `ask`: here the one."""
        return ["the server"]

    async def primary_of(self, key: str) -> str:
        """The name of the primary that serves the key, for `ask`."""
        del key
        return "the server"

    async def ask(self, primary: str, *command: Any) -> Any:
        """The answer of that primary to a command that names no key."""
        del primary
        return await self.execute_command(*command)


class SentinelClient(ServerClient):
    """A client of the primary that the sentinels name; every new connection asks them."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001
        await super().aclose(close_connection_pool)
        await cast("SentinelPool", self.connection_pool).sentinel_manager.aclose()


Client: TypeAlias = ServerClient | ClusterClient


def connect(
    url: str, *, connections: int = 16, timeout_ms: int = 1_000, connect_timeout_ms: int | None = None
) -> Client:
    """A client for any address of read_address that answers bytes and connects on first use.

    At most `connections` to a primary. Every attempt, and the wait for a free connection, ends within timeout_ms.
    Nothing is retried here: who knows that a call is safe to repeat repeats it, within a deadline of its own, and
    after a failover then reaches the new primary.
    """
    address = read_address(url)
    seconds = timeout_ms / 1000
    sockets: dict[str, Any] = {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds if connect_timeout_ms is None else connect_timeout_ms / 1000,
    }
    if address.kind == "cluster":
        return ClusterClient.of(address, connections, seconds, sockets)
    if address.kind == "sentinel":
        return cast("SentinelClient", SentinelClient.from_pool(sentinel_pool(address, connections, seconds, sockets)))
    return _of_server(address, connections, seconds, sockets)


def connect_blocking(url: str, *, block_ms: int, connections: int = 2) -> Client:
    """A client for blocking reads of up to block_ms, with as much again before a connection counts as dead.

    A read holds its connection: give as many connections as reads will wait at one primary at the same time.
    """
    return connect(url, connections=connections, timeout_ms=2 * block_ms + 1_000, connect_timeout_ms=2_000)


def _of_server(address: Address, connections: int, seconds: float, sockets: Mapping[str, Any]) -> ServerClient:
    options = dict(address.options)
    if path := options.pop("unix_socket_path", None):
        options |= {"connection_class": UnixDomainSocketConnection, "path": path}
    else:
        host, port = address.hosts[0]
        options |= {"connection_class": SSLConnection if address.tls else Connection, "host": host, "port": port}
    pool = BlockingConnectionPool(
        max_connections=connections,
        timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        **sockets,
        **options,
    )
    return cast("ServerClient", ServerClient.from_pool(pool))
