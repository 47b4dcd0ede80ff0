"""Each test of a function has one empty shard."""

import pytest
import redis

from tests.lua.shard import Shard


@pytest.fixture
def shard(client: redis.Redis) -> Shard:
    return Shard(client)
