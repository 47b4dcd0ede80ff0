"""The routes under /v1/pools. The function that stores a pool is the one judge of what it may be."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import OutcomeAnswer, PoolAnswer, PoolsAnswer
from scheduler.domain.apikey import EVERYONE
from scheduler.domain.ids import PoolName, Tenant, checked_id
from scheduler.domain.views import PoolView
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.access import caller_of
from scheduler.http.body import answer, decoded, is_packed, read_body
from scheduler.http.payload import json_of
from scheduler.http.problems import Problem

# The function's own limit, before anything looks into what is longer.
BODY_MAX_BYTES = 8_192


def _pool_name(request: Request) -> PoolName:
    return PoolName(checked_id("pool", request.path_params["pool"]))


def shown(pools: Sequence[PoolView], tenant: Tenant | None) -> list[PoolView]:
    """What the tenant may see of the pools: none that is others', and of its own not whom else they serve."""
    if tenant is None:
        return list(pools)
    own = {pool.name for pool in pools if not {EVERYONE, tenant}.isdisjoint(pool.tenants)}
    return [
        msgspec.structs.replace(
            pool,
            tenants=(EVERYONE,) if EVERYONE in pool.tenants else (tenant,),
            fallback=tuple(name for name in pool.fallback if name in own),
        )
        for pool in pools
        if pool.name in own
    ]


async def _told(request: Request) -> PoolsAnswer:
    version, pools = await (await request.app.state.engine.known()).pools.pools()
    tenant = caller_of(request).tenant
    # every change of anybody's pool makes a new version
    return PoolsAnswer(shown(pools, tenant), version if tenant is None else 0)


async def _one(request: Request, name: PoolName) -> PoolAnswer | None:
    told = await _told(request)
    return next((PoolAnswer(pool, told.config_version) for pool in told.pools if pool.name == name), None)


async def get_pools(request: Request) -> Response:
    return answer(request, await _told(request))


async def get_pool(request: Request) -> Response:
    told = await _one(request, _pool_name(request))
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
    if len(raw) > BODY_MAX_BYTES:
        raise BadInput("body", f"must be at most {BODY_MAX_BYTES} bytes")
    _empties_checked(decoded(raw, dict[str, Any], packed=packed))
    text = json_of(raw, "body") if packed else raw
    try:
        await (await engine.known()).pools.put(name, text.decode())
    except BadInput as error:
        # what the function calls by its argument is the body here
        raise BadInput("body" if error.field == "json" else error.field, error.what) from error
    told = await _one(request, name)
    if told is None:
        raise Problem(409, "Removed", "the pool was stored and then removed by another call")
    return answer(request, told)


async def delete_pool(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    if not await (await engine.known()).pools.remove(_pool_name(request)):
        raise Problem(404, "Unknown pool", "no configured pool has this name")
    return answer(request, OutcomeAnswer("removed"))
