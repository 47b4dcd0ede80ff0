"""A client of a Redis Cluster under the rules of `client.py`; who serves what is redis-py's to know."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Self, cast

from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import PRIMARY
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisClusterException, SlotNotCoveredError
from redis.exceptions import TimeoutError as TimedOut

from scheduler.store.address import Address
from scheduler.store.guarding import heeding_cancel

# Connections beside those of commands: the look at the topology, and redirections to a node that is full itself.
_SPARE = 8
# A pipeline sends its redirected commands one by one: they go on under the permits that it has.
_permitted: ContextVar[bool] = ContextVar("permitted", default=False)


class _Commands(AsyncCommandsParser):
    """Reads the table of commands once and not at every look at the topology: it is long, and servers agree on it."""

    async def initialize(self, node: ClusterNode | None = None) -> None:
        if node is not None:
            self.node = node
        if node is None or not self.commands:
            await super().initialize()


class ClusterClient(RedisCluster):
    """Sends each command to the primary that serves its key.

    A command is sent again only where a node has said that it did not run it (MOVED, ASK, TRYAGAIN). A lost
    connection is an error, after which the next command looks at the topology first.
    """

    @classmethod
    def of(cls, address: Address, connections: int, seconds: float, sockets: Mapping[str, Any]) -> Self:
        client = cls(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            # A shard whose primary is gone must not stop the others.
            require_full_coverage=False,
            # A new look at every fifth MOVED would cut the connections of calls under way; one MOVED moves one shard.
            reinitialize_steps=0,
            retry=Retry(NoBackoff(), 0),
            max_connections=connections + _SPARE,
            ssl=address.tls,
            **sockets,
            **address.options,
        )
        client.commands_parser = _Commands()
        client._connections, client._seconds = connections, seconds
        return client

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections, self._seconds = 16, 1.0
        self._room: dict[str, asyncio.Semaphore] = {}
        self._failed: str | None = None

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> Self:
        """Look at the topology if that is due, within the timeout; the node that failed last is asked last."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().initialize(additional_startup_nodes_info, last_failed_node_name or self._failed)
        except TimeoutError as error:
            raise TimedOut("the cluster does not tell its topology in time") from error
        except RedisClusterException as error:
            raise NotConnected(str(error)) from error
        return self

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with heeding_cancel():
            async with self.room_for([(args, options)]):
                return await super().execute_command(*args, **options)

    def look_again(self) -> None:
        """Let the next command look at the topology first."""
        self._initialize = True

    @asynccontextmanager
    async def room_for(self, commands: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> AsyncIterator[None]:
        """Where these commands may be sent: the topology is known, and their nodes have a connection for them."""
        await self.initialize()
        async with self._heeding_failure():
            nodes = {await self._node_of(args, options) for args, options in commands}
            async with self._permits(nodes):
                yield

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def aclose(self) -> None:
        # redis-py takes a client that must look at the topology for one that has no connections.
        self._initialize = False
        await super().aclose()

    async def primaries(self) -> list[str]:
        """The names of all primaries, for `ask`, as the nodes know them now, those without hash slots too."""
        self.look_again()
        await self.initialize()
        serving = {str(node.name) for node in self.get_primaries()}
        nodes = await self.ask(min(serving), "CLUSTER NODES")
        idle = {name for name, node in nodes.items() if not node["slots"] and _may_serve(node["flags"].split(","))}
        return sorted(serving | idle)

    async def primary_of(self, key: str) -> str:
        """The name of the primary that serves the key, for `ask`."""
        await self.initialize()
        async with self._heeding_failure():
            return str(self._serving(self.keyslot(key)).name)

    async def ask(self, primary: str, *command: Any) -> Any:
        """The answer of that primary to a command that names no key."""
        return await self.execute_command(*command, target_nodes=self.get_node(node_name=primary))

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> ClusterNode:
        """A node by its name, also one that has no hash slots yet, to which an ASK may send."""
        found = self.nodes_manager.get_node(host, port, node_name)
        if found is None:
            host, _, text = node_name.rpartition(":") if node_name else (host, ":", str(port))
            found = ClusterNode(host or "", int(text), PRIMARY, **self.nodes_manager.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {found.name: found})
        return found

    def pipeline(self, transaction: Any | None = None, shard_hint: Any | None = None) -> ClusterPipeline:
        del shard_hint
        return _Pipeline(self, transaction)  # type: ignore[abstract]

    def _serving(self, slot: int) -> ClusterNode:
        if not self.nodes_manager.slots_cache.get(slot):
            raise SlotNotCoveredError(f"no node of the cluster serves the hash slot {slot}")
        return self.nodes_manager.get_node_from_slot(slot)

    async def _determine_slot(self, command: str, *args: Any) -> int:
        """redis-py asks a server where the keys of these commands are, one more round trip for each."""
        key = _key_of(command, args)
        slot = await super()._determine_slot(command, *args) if key is None else self.keyslot(key)
        self._serving(slot)
        return slot

    async def _node_of(self, args: Sequence[Any], options: Mapping[str, Any]) -> str:
        """The node that the command will be sent to first; empty where redis-py chooses one."""
        if isinstance(target := options.get("target_nodes"), ClusterNode):
            return str(target.name)
        if args[0] in self.command_flags or "target_nodes" in options:
            return ""
        return str(self._serving(await self._determine_slot(*args)).name)

    @asynccontextmanager
    async def _permits(self, nodes: set[str]) -> AsyncIterator[None]:
        """Room at these nodes, within the timeout: a node's pool would raise at its limit, and not wait.

        Each node has room of its own, so that calls that hang at one do not keep others from the rest. Taken in one
        order by all: two that need the same two nodes do not wait for each other.
        """
        if _permitted.get():
            yield
            return
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._seconds):
                    for name in sorted(nodes):
                        room = self._room.setdefault(name, asyncio.Semaphore(self._connections))
                        await held.enter_async_context(room)
            except TimeoutError as error:
                raise NotConnected("No connection available.") from error
            inside = _permitted.set(True)
            try:
                yield
            finally:
                _permitted.reset(inside)

    @asynccontextmanager
    async def _heeding_failure(self) -> AsyncIterator[None]:
        """After a failure the next command looks at the topology first."""
        try:
            yield
        except (NotConnected, TimedOut) as error:
            if name := getattr(error, "last_failed_node_name", None):
                self._failed = name
                self.look_again()
            raise
        except SlotNotCoveredError as error:
            self.look_again()
            raise NotConnected(str(error)) from error


class _Pipeline(ClusterPipeline):
    """Commands that are sent together; those of one shard reach its primary in one round trip."""

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        client = cast("ClusterClient", self.cluster_client)
        queue = self._execution_strategy._command_queue  # type: ignore[attr-defined] # noqa: SLF001
        with heeding_cancel():
            async with client.room_for([(command.args, command.kwargs) for command in queue]):
                try:
                    return await super().execute(raise_on_error, allow_redirections)
                except (NotConnected, TimedOut):
                    client.look_again()
                    raise


def _may_serve(flags: Sequence[str]) -> bool:
    return "master" in flags and not {"fail", "handshake", "noaddr"}.intersection(flags)


def _key_of(command: str, args: Sequence[Any]) -> Any:
    """The first key of a command that has its keys elsewhere than the table of commands can say; else None."""
    match command.upper():
        case "FCALL" | "FCALL_RO" if int(args[1]):
            return args[2]
        case "SINTERCARD":
            return args[1]
        case "XREAD":
            words = [word.upper() if isinstance(word, str | bytes) else word for word in args]
            at = next(i for i, word in enumerate(words) if word in {"STREAMS", b"STREAMS"})
            return args[at + 1]
        case _:
            return None
