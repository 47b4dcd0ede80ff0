"""Each test of a function has one empty shard, and leaves no key that the key map does not know."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from scheduler.store.schema import row_of
from tests.lua.shard import Shard


@pytest.fixture
def shard(client: redis.Redis) -> Iterator[Shard]:
    yield Shard(client)
    keys: Any = client.keys("fleet:{*")
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = [kind.decode() for kind in pipe.execute()]
    odd = {}
    for key, kind in zip(keys, kinds, strict=True):
        row = row_of(key.decode().partition("}")[2])
        if row is None or row.kind != kind:
            odd[key.decode()] = kind
    assert odd == {}, "these keys are not in scheduler/store/schema.py, or of another type"
