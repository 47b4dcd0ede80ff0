"""library_read: which library this is; it needs no shard and makes none."""

from scheduler.store.library import read_library
from tests.lua.keyspace import dump
from tests.lua.shard import Shard


def test_it_answers_the_numbers_of_the_source_and_makes_no_key(shard: Shard) -> None:
    library = read_library()
    assert shard.call("library_read") == [b"library", library.abi, library.revision]
    assert dump(shard.client) == {}
