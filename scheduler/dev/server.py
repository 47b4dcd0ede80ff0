"""The embedded Redis server of `fleet dev` and the tests: started by us, private, gone with us."""

import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from redis.exceptions import RedisError

from scheduler.dev.choice import Kind, Prefer, ServerChoice, choose_server, plain_client
from scheduler.dev.folder import PrivateFolder
from scheduler.dev.process import spawn_bound, stop
from scheduler.errors import NoServer

__all__ = ["EmbeddedServer", "Kind", "Prefer", "ServerChoice", "choose_server", "free_port"]

# redis-cli's place on a machine that has none: prints the reply of one command.
_ONE_CALL = "import redis,sys; print(redis.Redis(port=int(sys.argv[1])).execute_command(*sys.argv[2:]))"


def free_port() -> int:
    """A loopback port that is free now; whoever binds it next should look again if it is not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """A private server on a loopback port, without persistence unless asked; it runs once constructed.

    args go behind our own on its command line and win. With folder, the data lie there and stay.
    """

    def __init__(
        self,
        choice: ServerChoice,
        *,
        port: int | None = None,
        args: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> None:
        if choice.binary is None:
            raise NoServer("this choice is a running server, there is nothing to start")
        self.choice = choice
        self._fixed_port = port is not None
        self.port = port or free_port()
        self._own = PrivateFolder() if folder is None else None
        self.folder = folder or cast("PrivateFolder", self._own).path
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        self._said = ""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        # From here a restart must be found where clients know it.
        self._fixed_port = True

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NoServer("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def cli_line(self) -> str:
        """What an operator types before a command, to look inside."""
        tool = next((name for name in ("redis-cli", "valkey-cli") if shutil.which(name)), None)
        return f"{tool} -p {self.port}" if tool else shlex.join([sys.executable, "-c", _ONE_CALL, str(self.port)])

    def start(self, deadline_s: float = 10.0) -> None:
        """Start (again) and wait until the server answers; NoServer with its last words if it does not."""
        end = time.monotonic() + deadline_s
        self._said = ""
        while not self._try(end):
            # Another process took the free port first; a fixed one may be just being left by the server before.
            if time.monotonic() > end:
                self.kill()
                raise NoServer(
                    f"{self.choice.binary} did not start on port {self.port}: {self._said or 'it wrote no log'}"
                )
            if not self._fixed_port:
                self.port = free_port()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back on the same port and folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End the server and remove what is its own. May be called again."""
        if self._process is not None:
            stop([self._process])
            self._process = None
        if self._own is not None:
            self._own.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _argv(self) -> list[str]:
        ours = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "logfile": str(self.folder / "server.log"),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        pairs = (word for name, value in ours.items() for word in (f"--{name}", value))
        return [str(self.choice.binary), *pairs, *self._args]

    def _try(self, end: float) -> bool:
        """Start once; False where the port was taken. The server that answers must be ours, not who took it."""
        (self.folder / "server.log").unlink(missing_ok=True)
        self._process = spawn_bound(self._argv())
        with plain_client(self.url) as client:
            while time.monotonic() < end:
                if self._process.poll() is not None:
                    self._said = self._last_words()
                    if "Address already in use" in self._said:
                        return False
                    raise NoServer(f"{self.choice.binary} did not start: {self._said}")
                try:
                    if client.ping() and cast("dict[str, Any]", client.info("server"))["process_id"] == self.pid:
                        return True
                except (RedisError, OSError):  # not yet listening, or still loading its data
                    pass
                time.sleep(0.005)
        # A try that the deadline cut short has nothing to add to what the one before it said.
        self._said = self._said or self._last_words()
        return False

    def _last_words(self) -> str:
        log = self.folder / "server.log"
        return log.read_text("utf-8", "replace")[-500:].strip() if log.exists() else ""
