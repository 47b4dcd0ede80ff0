"""The routes under /v1/pools. The function that stores a pool is the one judge of what it may be."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import OutcomeAnswer, PoolAnswer, PoolsAnswer
from scheduler.domain.ids import PoolName, checked_id
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.body import answer, decoded, is_packed, read_body
from scheduler.http.payload import json_of
from scheduler.http.problems import Problem


def _pool_name(request: Request) -> PoolName:
    return PoolName(checked_id("pool", request.path_params["pool"]))


async def _told(engine: Engine, name: PoolName) -> PoolAnswer | None:
    version, pools = await (await engine.known()).pools.pools()
    return next((PoolAnswer(pool, version) for pool in pools if pool.name == name), None)


async def get_pools(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    version, pools = await (await engine.known()).pools.pools()
    return answer(request, PoolsAnswer(pools, version))


async def get_pool(request: Request) -> Response:
    told = await _told(request.app.state.engine, _pool_name(request))
    if told is None:
        raise Problem(404, "Unknown pool", "no pool has this name")
    return answer(request, told)


_KINDS = {"selector": dict, "tenants": list, "fallback": list}
_SELECTOR_KINDS = {"capabilities": list, "labels": dict}


def _empties_checked(pool: dict[str, Any], at: str = "", kinds: Mapping[str, type] = _KINDS) -> None:
    """What the function cannot see: its decoder makes one thing of an empty list and an empty object."""
    for name, kind in kinds.items():
        value = pool.get(name)
        if value in ({}, []) and not isinstance(value, kind):
            raise BadInput(at + name, f"must be {'a list' if kind is list else 'an object'}")
    if not at and isinstance(selector := pool.get("selector"), dict):
        _empties_checked(selector, "selector.", _SELECTOR_KINDS)


async def put_pool(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    name, packed, raw = _pool_name(request), is_packed(request), await read_body(request)
    _empties_checked(decoded(raw, dict[str, Any], packed=packed))
    text = json_of(raw, "body") if packed else raw
    try:
        await (await engine.known()).pools.put(name, text.decode())
    except BadInput as error:
        # what the function calls by its argument is the body here
        raise BadInput("body" if error.field == "json" else error.field, error.what) from error
    told = await _told(engine, name)
    if told is None:
        raise Problem(409, "Removed", "the pool was stored and then removed by another call")
    return answer(request, told)


async def delete_pool(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    if not await (await engine.known()).pools.remove(_pool_name(request)):
        raise Problem(404, "Unknown pool", "no configured pool has this name")
    return answer(request, OutcomeAnswer("removed"))
