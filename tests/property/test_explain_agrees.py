"""Why is nothing placed? The function, the command, a replica and its page give one answer: class, reasons, pools,
verdicts.
"""

import asyncio
import contextlib
import io
import json
import os
from collections import Counter
from typing import Any, cast

import httpx
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scheduler.app import create_app
from scheduler.cli.main import main
from scheduler.domain.shards import home_tag
from scheduler.settings import Settings
from scheduler.store.keys import shard_key
from tests.conftest import divide, routed
from tests.lua.shard import Shard
from tests.property.explain_page import read
from tests.property.worlds import DEMANDS, WORLDS, Asked, World, become

Answer = dict[str, Any]
# Each world is asked so many times: 200 cases, or more where that is set.
DEMANDS_EACH = 8
# What the page has where there is nothing to say.
_NONE = "\N{EN DASH}"
WORLDS_EACH = int(os.environ.get("FLEET_AGREE_EXAMPLES", "25"))
_CLASSES = ("placeable", "overloaded", "unavailable", "impossible", "denied")
_ASKED = DEMANDS.filter(lambda asked: asked.body() is not None)


def seeded(client: redis.Redis, count: int, world: World) -> list[Shard]:
    """An emptied fleet of so many shards with these nodes, at rest: everything is where it belongs."""
    client.flushall()
    tags = divide(client, count) if count > 1 else ("0",)
    everywhere = cast("redis.Redis", routed(client))
    shards = {tag: Shard(everywhere, shard_key("fleet", tag)) for tag in tags}
    first, *others = shards.values()
    if world.config is not None:
        text = json.dumps(world.config)
        version = first.call("pools_apply", first.meta("config_version"), text)[1].decode()
        for other in others:
            assert other.call("pools_apply", 0, text, version)[0] == b"applied"
    for name, node in world.nodes.items():
        become(shards[home_tag(tags, name)], name, node, "")
    for shard in shards.values():
        for _ in range(100):
            if shard.call("reap")[1:] == [0, 0, 0] and shard.meta("paused_ms") == "0":
                break
            # reaping may have paused, for half of the nodes lapsed at once
            shard.advance(31_000)
    return list(shards.values())


def by_function(shards: list[Shard], asked: Asked) -> Answer:
    """What `redis-cli FCALL_RO fleet1_explain` answers, put together over shards and pages by hand."""
    text = json.dumps({name: value for name, value in asked.want().items() if value != ""})
    pages: list[list[Any]] = []
    for shard in shards:
        cursor = "0"
        while True:
            pages.append(_text(shard.client.execute_command("FCALL", "fleet1_explain", 1, shard.key, text, cursor)))
            cursor = pages[-1][2]
            if cursor == "0":
                break
    told = [page for page in pages if page[1] != "denied"] or pages[:1]
    reasons: Counter[str] = Counter()
    pools: dict[str, Answer] = {}
    nodes: dict[str, tuple[str | None, str, list[str]]] = {}
    for _, _, _, counted, in_pools, verdicts, *_ in told:
        reasons.update(_counts(counted))
        for name, class_, eligible, *counts in in_pools:
            pool = pools.setdefault(name, {"classes": set(), "eligible": 0, "reasons": Counter()})
            pool["classes"].add(class_)
            pool["eligible"] += eligible
            pool["reasons"].update(_counts(counts))
        for node, its_pools, verdict, *conditions in verdicts:
            nodes[node] = (its_pools.split()[0] if its_pools else None, verdict, conditions)
    return {
        "class": min((page[1] for page in told), key=_CLASSES.index),
        "reasons": dict(reasons),
        "pools": {
            name: (min(p["classes"], key=_CLASSES.index), p["eligible"], dict(p["reasons"]))
            for name, p in pools.items()
        },
        "nodes": nodes,
        "near": {page[6][0] for page in told if page[6]},
    }


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _counts(pairs: list[Any]) -> dict[str, int]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def in_the_same_shape(document: Answer) -> Answer:
    """An answer of the command or of HTTP as by_function gives it."""
    near = document["near_miss"]
    return {
        "class": document["class"],
        "reasons": document["reasons"],
        "pools": {pool["name"]: (pool["class"], pool["eligible"], pool["reasons"]) for pool in document["pools"]},
        "nodes": {node["id"]: (node["pool"], node["verdict"], node["conditions"]) for node in document["nodes"]},
        "near": set() if near is None else {near["id"]},
    }


def by_command(url: str, asked: Asked) -> Answer:
    argv = asked.argv()
    assert argv is not None
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ending:
        main(["explain", "--json", "--redis-url", url, *argv])
    document: Answer = json.loads(said.getvalue())
    assert ending.value.code == (0 if document["class"] == "placeable" else 1)
    return document


async def over_http(url: str, demands: list[Asked]) -> list[tuple[Answer, str]]:
    """A replica of its own, asked one after the other: its answer, and its page for the same demand."""
    app = create_app(Settings(redis_url=url))
    transport = httpx.ASGITransport(app)
    told: list[tuple[Answer, str]] = []
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as http:
            for asked in demands:
                headers = {"x-fleet-tenant": asked.tenant}
                answer = await http.post("/v1/explain", json=asked.body(), headers=headers)
                page = await http.get("/ui/explain", params=form_of(asked))
                told.append((answer.raise_for_status().json(), page.raise_for_status().text))
    finally:
        await app.state.engine.stop()
    return told


def form_of(asked: Asked) -> httpx.QueryParams:
    """The fields of the page's form, as a browser sends them."""
    body = asked.body()
    assert body is not None
    fields = [
        ("for", asked.tenant),
        ("exclude", " ".join(asked.exclude)),
        ("requires", " ".join(body.get("requires", []))),
    ]
    fields += [("services", name) for name in body.get("services", [])]
    fields += [(name, body.get(name, "")) for name in ("src", "tgt", "pool")]
    return httpx.QueryParams(tuple(fields if asked.fallback else [*fields, ("direct", "1")]))


def in_words_of_the_page(document: Answer) -> Answer:
    """What the page must say where HTTP answers this."""
    near = document["near_miss"]
    shown = near is not None and document["class"] != "placeable"
    place = f" in pool {near['pool']}" if shown and near["pool"] else ""
    return {
        "class": document["class"],
        "near": f"Nearest: {near['id']}{place}: {_words(near['conditions'])}." if shown else None,
        "reasons": {reason: str(count) for reason, count in document["reasons"].items()},
        "pools": {
            pool["name"]: [
                pool["class"],
                str(pool["eligible"]),
                {f"{reason.replace('_', ' ')} {count}" for reason, count in pool["reasons"].items()} or {"none"},
            ]
            for pool in document["pools"]
        },
        "nodes": {
            node["id"]: [
                node["pool"] or _NONE,
                node["verdict"].replace("_", " "),
                _words(node["conditions"]) or _NONE,
            ]
            for node in document["nodes"]
        },
    }


def _words(conditions: list[str]) -> str:
    """Conditions as people read them."""
    told = []
    for condition in conditions:
        reason, *what = condition.split()
        of = ", ".join(what)
        words = reason.replace("_", " ")
        told.append(f"lacks {of}" if reason == "missing_capability" else f"{words}: {of}" if of else words)
    return "; ".join(told)


def by_page(page: str) -> Answer:
    found = read(page)
    for name in ("pools", "nodes"):
        assert all(cells[0] == key for key, cells in found[name].items())
    return {
        **found,
        "reasons": {reason: cells[1] for reason, cells in found["reasons"].items()},
        "pools": {name: [*cells[1:3], set(cells[3].split(", "))] for name, cells in found["pools"].items()},
        "nodes": {node: cells[1:] for node, cells in found["nodes"].items()},
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [1, 3])
@settings(
    max_examples=WORLDS_EACH,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(world=WORLDS, demands=st.lists(_ASKED, min_size=DEMANDS_EACH, max_size=DEMANDS_EACH))
def test_function_command_replica_and_page_agree(
    client: redis.Redis, redis_url: str, count: int, world: World, demands: list[Asked]
) -> None:
    shards = seeded(client, count, world)
    for asked, (http, page) in zip(demands, asyncio.run(over_http(redis_url, demands)), strict=True):
        assert by_page(page) == in_words_of_the_page(http)
        command, function = by_command(redis_url, asked), by_function(shards, asked)
        age = http.pop("snapshot_age_ms")
        assert age < 60_000
        assert http.pop("cursor") is None
        # the same words in the same places, the near miss included
        assert {**command, "nodes": _by_id(command)} == {**http, "nodes": _by_id(http)}
        shown = in_the_same_shape(command)
        near, nearest_of_each = shown.pop("near"), function.pop("near")
        assert shown == function
        assert near <= nearest_of_each
        assert bool(near) == bool(nearest_of_each)


def _by_id(document: Answer) -> list[Answer]:
    return sorted(document["nodes"], key=lambda node: str(node["id"]))
