"""The function library: its source from `lua/`, loading it (never to a lower revision) and checking it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from scheduler.errors import BadInput, LibraryMismatch, ServerTooOld, ServerUnavailable
from scheduler.store.client import Client
from scheduler.store.source import joined

NAME = "fleet1"
_SHARED = (
    "shard",
    "pools",
    "configuring",
    "tenants",
    "languages",
    "nodes",
    "quarantine",
    "reports",
    "jobs",
    "holding",
    "reaping",
    "choosing",
    "looking",
    "refusing",
    "claiming",
    "explaining",
    "waiting",
    "serving",
    "moving",
    "telling",
    "apikeys",
)
NUMBERS = re.compile(r"^local ABI, REVISION = (\d+), (\d+)$", re.MULTILINE)
_LINE = re.compile(r"user_function:(\d+)")


@dataclass(frozen=True, slots=True)
class Library:
    """The joined source, and where each of its lines comes from."""

    code: str
    abi: int
    revision: int
    starts: tuple[tuple[int, str], ...]

    def mapped(self, message: str) -> str:
        """The message with `user_function:<line>` turned into `<file>:<line>` of the sources."""

        def place(match: re.Match[str]) -> str:
            line = int(match[1])
            start, file = max((s for s in self.starts if s[0] <= line), default=(1, "?"))
            return f"{file}:{line - start + 1}"

        return _LINE.sub(place, message)


def source_folder() -> Path:
    """`lua/` in the wheel, or beside the package in a source tree."""
    package = Path(__file__).resolve().parents[1]
    wheel = package / "_lua"
    return wheel if wheel.is_dir() else package.parent / "lua"


@cache
def read_library(folder: Path | None = None) -> Library:
    """Join prelude, shared files and function files; the order is part of the library.

    Once a process: every shard has stubs, and joining takes a tenth of a second.
    """
    folder = folder or source_folder()

    def texts(names: Sequence[str]) -> dict[str, str]:
        return {name: (folder / f"{name}.lua").read_text("utf-8") for name in names}

    prelude = texts(["prelude"])
    shared = texts([f"shared/{name}" for name in _SHARED])
    functions = texts(sorted(path.stem for path in folder.glob("*.lua") if path.stem != "prelude"))
    parts = joined(prelude["prelude"], shared, functions)
    starts: list[tuple[int, str]] = []
    line = 1
    for name, part in zip([*prelude, *shared, *functions], parts, strict=True):
        starts.append((line, f"lua/{name}.lua"))
        line += part.count("\n")
    code = "".join(parts)
    numbers = NUMBERS.search(code)
    if numbers is None:
        raise LibraryMismatch("lua/prelude.lua names no ABI and revision")
    return Library(code, int(numbers[1]), int(numbers[2]), tuple(starts))


async def _server_version(client: Client, primary: str) -> tuple[str, bool]:
    info = await client.ask(primary, "INFO", "server")
    version = str(info.get("valkey_version") or info["redis_version"])
    return version, int(version.partition(".")[0]) >= 7


async def _loaded_code(client: Client, primary: str) -> str | None:
    listed = await client.ask(primary, "FUNCTION", "LIST", "LIBRARYNAME", NAME, "WITHCODE")
    if not listed:
        return None
    entry = listed[0]
    fields = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
    code = next(value for key, value in fields.items() if key in (b"library_code", "library_code"))
    return code.decode() if isinstance(code, bytes) else str(code)


async def _needs(client: Client, primary: str, library: Library) -> bool:
    """Whether the library is to be loaded there; raises where it must not be."""
    version, new_enough = await _server_version(client, primary)
    if not new_enough:
        raise ServerTooOld(f"Redis 7.0 or newer is needed, {primary} is {version}")
    held = await _loaded_code(client, primary)
    if held is None or held == library.code:
        return held is None
    numbers = NUMBERS.search(held)
    revision = int(numbers[2]) if numbers else 0
    if revision >= library.revision:
        raise LibraryMismatch(
            f"{primary} holds revision {revision} of {NAME}, this program brings {library.revision}"
            + (" with other code: raise the revision" if revision == library.revision else ": it never goes back")
        )
    return True


async def load_library(client: Client, library: Library | None = None) -> str:
    """Load the library on every primary that has a lower revision or none; says in words what was done.

    All primaries are looked at before the first is changed. Raises ServerTooOld, LibraryMismatch (a lower revision,
    the same revision with other code, or a source that does not compile: then what was loaded before goes on serving)
    and ServerUnavailable.
    """
    library = library or read_library()
    try:
        primaries = await client.primaries()
        lacking = [primary for primary in primaries if await _needs(client, primary, library)]
        for primary in lacking:
            await client.ask(primary, "FUNCTION", "LOAD", "REPLACE", library.code)
    except ReadOnlyError as error:
        raise ServerUnavailable(f"it has just become a replica of another server: {error}") from error
    except ResponseError as error:
        raise LibraryMismatch(f"the library was not loaded: {library.mapped(str(error))}") from error
    except (RedisError, OSError) as error:
        raise ServerUnavailable(f"Redis does not answer: {error}") from error
    where = f" on {', '.join(lacking or primaries)}" if len(primaries) > 1 else ""
    return f"{NAME} revision {library.revision} {'loaded' if lacking else 'is there already'}{where}"


async def check_library(client: Client, shard: str, library: Library | None = None) -> None:
    """Raise LibraryMismatch unless the primary that serves the shard has our ABI and at least our revision.

    Raises ServerUnavailable where that server takes no writes because it is a replica of another.
    """
    library = library or read_library()
    with _failures():
        word, abi, revision = (await client.execute_command("FCALL", "fleet1_library_read", 1, shard))[:3]
        role = (await client.ask(await client.primary_of(shard), "INFO", "replication"))["role"]
    if word != b"library":
        raise LibraryMismatch(f"fleet1_library_read answers {word!r}")
    _judge("the server", int(abi), int(revision), str(role), library)


async def check_primaries(client: Client, library: Library | None = None) -> list[str]:
    """The names of all primaries; raises as check_library does, naming the first whose library does not fit."""
    library = library or read_library()
    with _failures():
        primaries = await client.primaries()
    for primary in primaries:
        with _failures():
            held = NUMBERS.search(await _loaded_code(client, primary) or "")
            role = (await client.ask(primary, "INFO", "replication"))["role"]
        if held is None:
            raise LibraryMismatch(f"{primary} lacks {NAME}: run `fleet library load`")
        _judge(primary, int(held[1]), int(held[2]), str(role), library)
    return primaries


@contextmanager
def _failures() -> Iterator[None]:
    """What Redis answers to a look at its library, in our words."""
    try:
        yield
    except ResponseError as error:
        if "unknown command" in str(error).lower():
            raise ServerTooOld("Redis 7.0 or newer is needed, this server has no functions") from error
        raise LibraryMismatch(f"the server lacks {NAME}: run `fleet library load` ({error})") from error
    except (RedisError, OSError) as error:
        raise ServerUnavailable(f"Redis does not answer: {error}") from error


def _judge(where: str, abi: int, revision: int, role: str, library: Library) -> None:
    if abi != library.abi or revision < library.revision:
        raise LibraryMismatch(
            f"{where} holds ABI {abi} revision {revision}, this program needs ABI {library.abi} "
            f"revision {library.revision} or higher: run `fleet library load`"
        )
    if role != "master":
        raise ServerUnavailable(
            "it is a replica of another server and takes no writes: REDIS_URL must name the primary"
        )


def bad_input(message: str) -> BadInput | None:
    """The `BADARG <field> <what>` of a function as an exception, or None for another error."""
    if not message.startswith("BADARG "):
        return None
    field, _, what = message.removeprefix("BADARG ").partition(" ")
    return BadInput(field, what)
