"""Loading the library: never back, never half, and errors that name a file."""

from dataclasses import replace

import pytest
import redis

from scheduler.errors import LibraryMismatch, ServerUnavailable
from scheduler.store.client import connect
from scheduler.store.library import Library, check_library, load_library, read_library

P = "fleet:{0}"
NUMBERS = "local ABI, REVISION = 1, "


def revised(revision: int, extra: str = "") -> Library:
    library = read_library()
    code = library.code.replace(f"{NUMBERS}{library.revision}", f"{NUMBERS}{revision}") + extra
    return replace(library, code=code, revision=revision)


def served_revision(client: redis.Redis) -> int:
    return int(client.execute_command("FCALL", "fleet1_library_read", 1, P)[2])


async def test_a_higher_revision_replaces_and_a_lower_one_is_refused(redis_url: str, client: redis.Redis) -> None:
    async with connect(redis_url) as connection:
        assert (await load_library(connection, revised(7))).startswith("fleet1 revision 7 loaded")
        assert (await load_library(connection, revised(7))).startswith("fleet1 revision 7 is there already")
        with pytest.raises(LibraryMismatch, match="it never goes back"):
            await load_library(connection, revised(6))
        with pytest.raises(LibraryMismatch, match="with other code: raise the revision"):
            await load_library(connection, revised(7, "-- changed\n"))
    assert served_revision(client) == 7


async def test_a_library_that_does_not_compile_leaves_the_old_one_and_names_the_line(
    redis_url: str, client: redis.Redis
) -> None:
    broken = read_library()
    lines = broken.code.split("\n")
    start = next(line for line, file in broken.starts if file == "lua/job_start.lua")
    lines[start + 8] = "this is not Lua"
    async with connect(redis_url) as connection:
        with pytest.raises(LibraryMismatch, match=r"lua/job_start\.lua:\d+"):
            await load_library(connection, replace(broken, code="\n".join(lines), revision=9))
    assert served_revision(client) == read_library().revision


async def test_a_replica_works_with_a_higher_revision_but_not_with_a_lower_or_none(
    redis_url: str, client: redis.Redis
) -> None:
    async with connect(redis_url) as connection:
        await check_library(connection, P)
        await load_library(connection, revised(8))
        await check_library(connection, P)
        with pytest.raises(LibraryMismatch, match="revision 9 or higher"):
            await check_library(connection, P, revised(9))
        with pytest.raises(LibraryMismatch, match="needs ABI 2"):
            await check_library(connection, P, replace(read_library(), abi=2))
        client.execute_command("FUNCTION", "FLUSH")
        with pytest.raises(LibraryMismatch, match="run `fleet library load`"):
            await check_library(connection, P)


async def test_a_server_that_is_away_is_said_to_be_away() -> None:
    async with connect("redis://127.0.0.1:1", timeout_ms=500) as connection:
        with pytest.raises(ServerUnavailable):
            await load_library(connection)
        with pytest.raises(ServerUnavailable):
            await check_library(connection, P)


def test_the_library_is_joined_once_whatever_the_number_of_shards() -> None:
    assert read_library() is read_library()
