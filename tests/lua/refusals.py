"""Pools that are not sound, with the field that their refusal names; and the refusal itself."""

import json
import re
from typing import Any

import pytest
import redis

from tests.lua.keyspace import exact
from tests.lua.shard import Shard

_NO_TEXT: list[Any] = [None, 7, True, False, "text", {"a": 1}, [None], [7], [True], [["gpu"]], [{}], [""], ["a b"],
                       ["é"], ["-a"], ["a\n"], ["a\0"], ["a", "a"]]  # fmt: skip
_NO_LIST_OF_IDS: list[Any] = [*_NO_TEXT, ["a:b"], ["x" * 65]]
_NO_LABELS: list[Any] = [None, 7, True, False, "a=b", ["a"], [["a", "b"]], {"a": None}, {"a": 7}, {"a": True},
                         {"a": {}}, {"a": ["b"]}, {"": "x"}, {"-a": "x"}, {"a b": "x"}, {"a": "b c"}, {"a": "é"},
                         {"a": "=", "b": "c"}, {"a" * 65: "x"}, {"a": "x" * 129},
                         {f"k{number}": "v" for number in range(65)}]  # fmt: skip
_NO_WHOLE: list[Any] = [None, "1", True, [], {}, 1.5, [1]]


def _pool(**fields: Any) -> dict[str, Any]:
    return {"selector": {"all": True}} | fields


# What is wrong with a pool by itself: the whole as a value or as JSON text, and the field.
ODD_POOLS: list[tuple[Any, str]] = [
    *((text, "json") for text in ("", " ", "{", "nul", "7", '"x"', "null", "true", "\0", "{} {}", "[" * 5000, "[7]",
                                  '{"selector":{"all":true}}x', '{"selector":{"all":true},}')),
    ('{"selector":{"all":true},"d":NaN}', "d"), ('{"selector":{"all":true},"priority":Infinity}', "priority"),
    ('{"selector":{"all":true},"priority":1e300}', "priority"),
    (" " * 8193, "json"), (json.dumps(_pool()) + " " * 8192, "json"),
    *(({"selector": value}, "selector") for value in (None, 7, True, False, "gpu", [], {}, [7], ["gpu"], {"all": False})),
    ({}, "selector"), ("[]", "selector"), ({"tenants": ["acme"]}, "selector"),
    ({"selector": {"labels": {}, "capabilities": []}}, "selector"),
    ({"selector": {"all": True, "capabilities": ["gpu"]}}, "selector"),
    ({"selector": {"all": True, "labels": {"a": "b"}}}, "selector"),
    *(({"selector": {"all": value}}, "selector.all") for value in (None, 1, "true", [], {})),
    ({"selector": {"all": True, "any": True}}, "selector.any"), ({"selector": {"all": True, "é": 1}}, "selector"),
    *(({"selector": {"labels": {"a": "b"}, "capabilities": value}}, "selector.capabilities")
      for value in (*_NO_TEXT, ["x" * 129], [f"t{number}" for number in range(65)])),
    *(({"selector": {"capabilities": ["gpu"], "labels": value}}, "selector.labels") for value in _NO_LABELS),
    *((_pool(tenants=value), "tenants") for value in (*_NO_LIST_OF_IDS, [], {}, ["**"], [f"t{n}" for n in range(101)])),
    *((_pool(fallback=value), "fallback") for value in (*_NO_LIST_OF_IDS, ["*"], [f"p{n}" for n in range(17)])),
    *((_pool(strategy=value), "strategy") for value in (None, 7, True, False, "", "Spread", "random", [], {})),
    *((_pool(priority=value), "priority") for value in (*_NO_WHOLE, False, -1001, 1001, 2**60)),
    *((_pool(d=value), "d") for value in (*_NO_WHOLE, False, 0, -1, 17)),
    *((_pool(**{name: 1}), name) for name in ("languages", "name", "Tenants", "members", "max", "x.y-z_1")),
    *((_pool(**{name: 1}), "json") for name in ("", "a b", "é", "\n", "x" * 65)),
    (_pool(fallback=["gold"]), "fallback"), (_pool(fallback=["silver", "nowhere"]), "fallback"),
]  # fmt: skip


def refused(shard: Shard, name: str, *args: str | bytes | float, field: str) -> str:
    """The call is refused for this field and changes no key, byte for byte; answers what is said."""
    before = exact(shard.client)
    with pytest.raises(redis.ResponseError) as told:
        shard.call(name, *args)
    said = str(told.value)
    assert re.match(rf"^BADARG {re.escape(field)} \S", said), (said, [str(arg)[:200] for arg in args])
    assert exact(shard.client) == before
    return said
