"""apikey_remove: a key goes, and the mark that keys are needed stays."""

import json

from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard

KEY = json.dumps({"hash": "a" * 64, "tenant": "*", "role": "admin", "created_at_ms": 1, "expires_at_ms": 10**13})


def test_a_removal_takes_the_key_and_gives_a_new_version(shard: Shard) -> None:
    version = shard.call("apikey_put", "first0001", KEY)[1]
    assert shard.call("apikey_remove", "first0001") == [b"removed"]
    state = dump(shard.client)
    assert set(state) == {P}
    assert int(state[P]["apikeys_version"]) > int(version)


def test_an_unknown_key_changes_nothing(shard: Shard) -> None:
    assert shard.call("apikey_remove", "first0001") == [b"unknown"]
    assert dump(shard.client) == {}
    shard.call("apikey_put", "first0001", KEY)
    before = exact(shard.client)
    assert shard.call("apikey_remove", "second001") == [b"unknown"]
    assert exact(shard.client) == before
