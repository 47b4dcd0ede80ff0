"""An embedded Redis Cluster: primaries and their replicas on private ports, gone with us."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from redis.exceptions import RedisError

from scheduler.dev.choice import ServerChoice, plain_client
from scheduler.dev.server import EmbeddedServer, free_port
from scheduler.errors import NoServer

HASH_SLOTS = 16_384


def wait_until(reached: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Return when it is so; what Redis does not answer yet is not so. Raises NoServer at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            if reached():
                return
        except (RedisError, OSError):
            pass
        if time.monotonic() > end:
            raise NoServer(f"after {deadline_s:.0f} s it is not so that {what}")
        time.sleep(0.01)


def ask(server: EmbeddedServer, *command: str | int) -> Any:
    """One command to this server itself, whatever it serves."""
    with plain_client(server.url) as client:
        return client.execute_command(*command)


class EmbeddedCluster:
    """So many primaries, the hash slots shared out evenly in order, each with so many replicas; ready once made.

    args go to every server; a function is asked for each server's. A shard whose primary is lost does not stop the
    others (`cluster-require-full-coverage no`). A primary counts as failed after node_timeout_ms; its replica takes
    over about a second after that.
    """

    def __init__(
        self,
        choice: ServerChoice,
        *,
        primaries: int = 3,
        replicas: int = 0,
        node_timeout_ms: int = 1_000,
        args: tuple[str, ...] | Callable[[], tuple[str, ...]] = (),
        deadline_s: float = 30.0,
    ) -> None:
        self.servers: list[EmbeddedServer] = []
        end = time.monotonic() + deadline_s
        try:
            for _ in range(primaries * (1 + replicas)):
                own = args() if callable(args) else args
                self.servers.append(EmbeddedServer(choice, args=(*self._options(node_timeout_ms), *own)))
            self._assemble(primaries, end)
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _options(node_timeout_ms: int) -> tuple[str, ...]:
        ours = {
            "cluster-enabled": "yes",
            # The usual one is the port and 10,000, which is not always a port.
            "cluster-port": free_port(),
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": node_timeout_ms,
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": 0,
            "repl-diskless-sync-delay": 0,
        }
        return tuple(word for name, value in ours.items() for word in (f"--{name}", str(value)))

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in self.servers)}"

    @property
    def cli_line(self) -> str:
        """What an operator types before a command, to look inside."""
        return f"redis-cli -c -p {self.servers[0].port}"

    def primary_of(self, key: str) -> EmbeddedServer:
        """The running server that serves the key, as the running servers agree."""
        found: list[EmbeddedServer] = []

        def agreed() -> bool:
            running = [server for server in self.servers if server.running]
            slot = int(ask(running[0], "CLUSTER", "KEYSLOT", key))
            ports = {_port_of(server, slot) for server in running}
            found[:] = [server for server in running if {server.port} == ports]
            return bool(found)

        wait_until(agreed, f"one running primary serves {key}", 10)
        return found[0]

    def wait_promoted(self, lost: EmbeddedServer, deadline_s: float = 30.0) -> None:
        """Return when no running server takes `lost` for a primary with hash slots any more."""

        def promoted() -> bool:
            running = [server for server in self.servers if server.running]
            return all(lost.port not in _primary_ports(server) for server in running)

        wait_until(promoted, f"another serves what 127.0.0.1:{lost.port} served", deadline_s)

    def wait_whole(self, deadline_s: float = 30.0) -> None:
        """Return when every server runs, knows all others, and every replica follows its primary."""
        wait_until(self._whole, "the cluster is whole", deadline_s)

    def stop(self) -> None:
        """End all servers and remove what is theirs. May be called again."""
        for server in self.servers:
            server.kill()
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _assemble(self, primaries: int, end: float) -> None:
        first, heads = self.servers[0], self.servers[:primaries]
        for i, server in enumerate(heads):
            begin, after = HASH_SLOTS * i // primaries, HASH_SLOTS * (i + 1) // primaries
            ask(server, "CLUSTER", "ADDSLOTSRANGE", begin, after - 1)
            # Two that begin with the same epoch would have to settle which is the newer.
            ask(server, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for server in self.servers[1:]:
            ask(first, "CLUSTER", "MEET", "127.0.0.1", server.port, bus_port(server))
        count = len(self.servers)
        wait_until(lambda: all(_known(server) == count for server in self.servers), "all have met", end - _now())
        for i, server in enumerate(self.servers[primaries:]):
            name = ask(heads[i % primaries], "CLUSTER", "MYID").decode()
            ask(server, "CLUSTER", "REPLICATE", name)
        self.wait_whole(max(end - _now(), 0.1))

    def _whole(self) -> bool:
        covered = {_primary_ports(server) for server in self.servers}
        ports = {server.port for server in self.servers}
        return len(covered) == 1 and all(
            server.running
            and b"cluster_state:ok" in ask(server, "CLUSTER", "INFO")
            and _known(server) == len(self.servers)
            and _serving_ports(server) == ports
            and _follows(server)
            for server in self.servers
        )


def _now() -> float:
    return time.monotonic()


def bus_port(server: EmbeddedServer) -> int:
    """Where the other nodes of a cluster reach this one."""
    with plain_client(server.url) as client:
        return int(cast("dict[str, str]", client.config_get("cluster-port"))["cluster-port"])


def _known(server: EmbeddedServer) -> int:
    """How many nodes it is in touch with, itself included."""
    with plain_client(server.url) as client:
        nodes = cast("dict[str, dict[str, Any]]", client.cluster("NODES"))
    return sum(1 for node in nodes.values() if node["connected"] and "handshake" not in node["flags"])


def _follows(server: EmbeddedServer) -> bool:
    with plain_client(server.url) as client:
        info = cast("dict[str, Any]", client.info("replication"))
    return "master" in info["role"] or "up" in info["master_link_status"]


def _slots(server: EmbeddedServer) -> list[tuple[int, int, int]]:
    return [(int(begin), int(end), int(primary[1])) for begin, end, primary, *_ in ask(server, "CLUSTER", "SLOTS")]


def _port_of(server: EmbeddedServer, slot: int) -> int:
    return next((port for begin, end, port in _slots(server) if begin <= slot <= end), 0)


def _primary_ports(server: EmbeddedServer) -> frozenset[int]:
    return frozenset(port for _, _, port in _slots(server))


def _serving_ports(server: EmbeddedServer) -> set[int]:
    """Where it sends clients, to primaries or their replicas."""
    return {int(node[1]) for _, _, *nodes in ask(server, "CLUSTER", "SLOTS") for node in nodes}
