"""Reads a whole keyspace into plain Python, so that a test compares all that a call left."""

import re
from collections.abc import Mapping
from typing import Any, cast

import redis

P = "fleet:{0}"

Keyspace = dict[str, Any]

# Wall-clock instants are for people and no test can know them. `entry` and stream ids hold Redis's own time.
_CLOCKED = re.compile(r"^(clock|clock_seen_at_ms|reaped_ms|epoch|.*_at_ms|entry)$")
NOW = "<now>"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _hash(pairs: Mapping[bytes, bytes], *, mask: bool) -> dict[str, str]:
    return {
        _text(name): NOW if mask and _CLOCKED.match(_text(name)) else _text(value) for name, value in pairs.items()
    }


def _read(client: redis.Redis, key: bytes, *, mask: bool) -> Any:
    kind = _text(cast("bytes", client.type(key)))
    raw: Any
    if kind == "hash":
        raw = client.hgetall(key)
        return _hash(raw, mask=mask)
    if kind == "set":
        raw = client.smembers(key)
        return {_text(member) for member in raw}
    if kind == "zset":
        raw = client.zrange(key, 0, -1, withscores=True)
        return {_text(member): score for member, score in raw}
    if kind == "stream":
        raw = client.xrange(key)
        return [
            _hash(fields, mask=False) if mask else (_text(entry), _hash(fields, mask=False)) for entry, fields in raw
        ]
    assert kind == "string", kind
    raw = client.get(key)
    return _text(raw)


def dump(client: redis.Redis, *, mask: bool = True) -> Keyspace:
    """Every key of the server by its name, without the shard prefix; a stream that was emptied is []."""
    keys: Any = client.keys("*")
    return {_text(key).removeprefix(f"{P}:"): _read(client, key, mask=mask) for key in sorted(keys)}


def exact(client: redis.Redis) -> dict[bytes, tuple[bytes, int]]:
    """Every key as its serialised bytes and its expiry: equal before and after means that nothing changed at all."""
    keys: Any = client.keys("*")
    found: dict[bytes, tuple[bytes, int]] = {}
    for key in sorted(keys):
        found[key] = (cast("bytes", client.dump(key)), client.pexpiretime(key))
    return found


def changes(before: Keyspace, after: Keyspace) -> tuple[Keyspace, Keyspace]:
    """Keys that are gone or differ, as they were; keys that are new or differ, as they are; hashes by field."""
    gone: Keyspace = {}
    new: Keyspace = {}
    for key in before.keys() | after.keys():
        old, now = before.get(key), after.get(key)
        if old == now:
            continue
        if isinstance(old, dict) and isinstance(now, dict):
            gone[key] = {name: value for name, value in old.items() if now.get(name) != value}
            new[key] = {name: value for name, value in now.items() if old.get(name) != value}
            continue
        if key in before:
            gone[key] = old
        if key in after:
            new[key] = now
    return gone, new
