"""An embedded primary with replicas and the sentinels that watch it, on private ports, gone with us."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from scheduler.dev.choice import ServerChoice, plain_client
from scheduler.dev.cluster import ask, wait_until
from scheduler.dev.server import EmbeddedServer

SERVICE = "fleet"


class Watcher(EmbeddedServer):
    """A sentinel: the same program with a configuration file that it rewrites."""

    def __init__(self, choice: ServerChoice, lines: tuple[str, ...]) -> None:
        self._lines = lines
        super().__init__(choice)

    def _argv(self) -> list[str]:
        file = Path(self.folder, "sentinel.conf")
        if not self._fixed_port:
            ours = (f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f"logfile {self.folder}/server.log")
            file.write_text("\n".join((*ours, *self._lines, "")), "utf-8")
        return [str(self.choice.binary), str(file), "--sentinel"]


class EmbeddedSentinel:
    """One primary, its replicas, and sentinels of which two must agree that it is down; ready once made.

    args go to the servers, lines to the configuration of the sentinels. The primary counts as down after
    down_after_ms; a replica takes over about a second after that.
    """

    def __init__(
        self,
        choice: ServerChoice,
        *,
        replicas: int = 1,
        sentinels: int = 3,
        down_after_ms: int = 500,
        args: tuple[str, ...] = (),
        lines: tuple[str, ...] = (),
    ) -> None:
        self.servers: list[EmbeddedServer] = []
        self.sentinels: list[EmbeddedServer] = []
        options = ("--repl-diskless-sync-delay", "0", *args)
        try:
            first = EmbeddedServer(choice, args=options)
            self.servers.append(first)
            for _ in range(replicas):
                follow = ("--replicaof", f"127.0.0.1 {first.port}")
                self.servers.append(EmbeddedServer(choice, args=(*options, *follow)))
            watched = (
                f"sentinel monitor {SERVICE} 127.0.0.1 {first.port} 2",
                f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
                f"sentinel failover-timeout {SERVICE} 5000",
                *lines,
            )
            self.sentinels.extend(Watcher(choice, watched) for _ in range(sentinels))
            self.wait_whole()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def cli_line(self) -> str:
        """What an operator types before a command, to look inside; right until the next failover."""
        return self.primary().cli_line

    def primary(self) -> EmbeddedServer:
        """The running server that all running sentinels name as the primary."""
        found: list[EmbeddedServer] = []

        def agreed() -> bool:
            ports = {_named(sentinel) for sentinel in self.sentinels if sentinel.running}
            found[:] = [server for server in self.servers if {server.port} == ports and server.running]
            return bool(found) and _role(found[0]) == "master"

        wait_until(agreed, "the sentinels name one running primary", 30)
        return found[0]

    def fail_over(self) -> None:
        """Have a replica promoted. A sentinel that has not heard of one lately is asked again."""
        sentinel = self.sentinels[0]
        wait_until(lambda: bool(ask(sentinel, "SENTINEL", "FAILOVER", SERVICE)), "a replica may be promoted", 20)

    def wait_whole(self, deadline_s: float = 30.0) -> None:
        """Return when every replica follows the primary and every sentinel knows all the others."""

        def whole() -> bool:
            primary = self.primary()
            return all(
                server is primary or _follows(server, primary) for server in self.servers if server.running
            ) and all(self._known(sentinel) for sentinel in self.sentinels if sentinel.running)

        wait_until(whole, "sentinels and replicas know each other", deadline_s)

    def stop(self) -> None:
        """End all servers and sentinels and remove what is theirs. May be called again."""
        for server in (*self.sentinels, *self.servers):
            server.kill()
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _known(self, sentinel: EmbeddedServer) -> bool:
        state = _state(sentinel)
        others, replicas = len(self.sentinels) - 1, len(self.servers) - 1
        return int(state["num-other-sentinels"]) == others and int(state["num-slaves"]) == replicas


def _state(sentinel: EmbeddedServer) -> dict[str, Any]:
    with plain_client(sentinel.url) as client:
        return cast("dict[str, Any]", client.sentinel_master(SERVICE))


def _named(sentinel: EmbeddedServer) -> int:
    return int(ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])


def _role(server: EmbeddedServer) -> str:
    with plain_client(server.url) as client:
        return str(cast("dict[str, Any]", client.info("replication"))["role"])


def _follows(server: EmbeddedServer, primary: EmbeddedServer) -> bool:
    with plain_client(server.url) as client:
        info = cast("dict[str, Any]", client.info("replication"))
    return info.get("master_port") == primary.port and info["master_link_status"] == "up"
