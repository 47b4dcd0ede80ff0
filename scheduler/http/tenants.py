"""The routes under /v1/tenants. The function that stores a quota is the one judge of what it may be."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.answers import OutcomeAnswer, TenantAnswer, TenantsAnswer
from scheduler.domain.ids import Tenant
from scheduler.domain.tenants import checked_tenant
from scheduler.engine.configuring import Configured
from scheduler.errors import BadInput
from scheduler.http.access import caller_of
from scheduler.http.body import answer, decoded, is_packed, read_body
from scheduler.http.payload import json_of
from scheduler.http.problems import Problem


def _tenant(request: Request) -> Tenant:
    return checked_tenant("tenant", request.path_params["tenant"])


async def _configured(request: Request) -> Configured:
    configured: Configured = (await request.app.state.engine.known()).pools
    return configured


async def _told(request: Request, tenant: Tenant) -> TenantAnswer:
    version, (view,) = await (await _configured(request)).tenants(tenant)
    # it is new with the quotas of any tenant
    return TenantAnswer(view, version if caller_of(request).tenant is None else 0)


async def get_tenants(request: Request) -> Response:
    version, tenants = await (await _configured(request)).tenants()
    return answer(request, TenantsAnswer(tenants, version))


async def get_tenant(request: Request) -> Response:
    tenant, own = _tenant(request), caller_of(request).tenant
    if own not in {None, tenant}:
        raise Problem(404, "Unknown tenant", "this key knows its own tenant only")
    return answer(request, await _told(request, tenant))


async def put_tenant(request: Request) -> Response:
    tenant, packed, raw = _tenant(request), is_packed(request), await read_body(request)
    decoded(raw, dict[str, Any], packed=packed)
    text = json_of(raw, "body") if packed else raw
    try:
        await (await _configured(request)).put_tenant(tenant, text.decode())
    except BadInput as error:
        # what the function calls by its argument is the body here
        raise BadInput("body" if error.field == "json" else error.field, error.what) from error
    return answer(request, await _told(request, tenant))


async def delete_tenant(request: Request) -> Response:
    if not await (await _configured(request)).remove_tenant(_tenant(request)):
        raise Problem(404, "Unknown tenant", "this tenant has no quotas of its own")
    return answer(request, OutcomeAnswer("removed"))
