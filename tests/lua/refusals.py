"""Pools that are not sound, with the field that their refusal names; and the refusal itself."""

import json
import re
from collections.abc import Iterator
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


def _each(field: str, *values: Any) -> Iterator[tuple[Any, str]]:
    """The pool with each of these values of the field."""
    for value in values:
        yield _pool(**{field: value}), field


def _each_selector(field: str, good: dict[str, Any], *values: Any) -> Iterator[tuple[Any, str]]:
    for value in values:
        yield {"selector": good | {field: value}}, f"selector.{field}"


def _each_whole(field: str, *values: Any) -> Iterator[tuple[Any, str]]:
    for value in values:
        yield value, field


# What is wrong with a pool by itself: the whole as a value or as JSON text, and the field.
ODD_POOLS: list[tuple[Any, str]] = [
    *_each_whole("json", "", " ", "{", "nul", "7", '"x"', "null", "true", "\0", "{} {}", "[" * 5000, "[7]",
                 " " * 8193, '{"selector":{"all":true}}x', '{"selector":{"all":true},}',
                 json.dumps(_pool()) + " " * 8192),
    *_each_whole("priority", '{"selector":{"all":true},"priority":Infinity}',
                 '{"selector":{"all":true},"priority":1e300}'),
    *_each_whole("d", '{"selector":{"all":true},"d":NaN}'),
    *_each("selector", None, 7, True, False, "gpu", [], {}, [7], ["gpu"], {"all": False}),
    *_each("selector", {"labels": {}, "capabilities": []}, {"all": True, "capabilities": ["gpu"]},
           {"all": True, "labels": {"a": "b"}}, {"all": True, "é": 1}),
    *_each_whole("selector", {}, "[]", {"tenants": ["acme"]}),
    *_each_selector("any", {"all": True}, True),
    *_each_selector("all", {}, None, 1, "true", [], {}),
    *_each_selector("capabilities", {"labels": {"a": "b"}}, *_NO_TEXT, ["x" * 129], [f"t{n}" for n in range(65)]),
    *_each_selector("labels", {"capabilities": ["gpu"]}, *_NO_LABELS),
    *_each("tenants", *_NO_LIST_OF_IDS, [], {}, ["**"], [f"t{number}" for number in range(101)]),
    *_each("fallback", *_NO_LIST_OF_IDS, ["*"], [f"p{number}" for number in range(17)], ["gold"],
           ["silver", "nowhere"]),
    *_each("strategy", None, 7, True, False, "", "Spread", "random", [], {}),
    *_each("priority", *_NO_WHOLE, False, -1001, 1001, 2**60),
    *_each("d", *_NO_WHOLE, False, 0, -1, 17),
    *(case for name in ("languages", "name", "Tenants", "members", "max", "x.y-z_1") for case in _each(name, 1)),
    *_each_whole("json", *(_pool(**{name: 1}) for name in ("", "a b", "é", "\n", "x" * 65))),
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
