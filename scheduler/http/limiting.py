"""Quotas that a replica keeps by itself: requests in a second and bytes of a payload. Functions keep the others."""

from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from scheduler.domain.ids import Tenant
from scheduler.domain.job import JobRequest
from scheduler.domain.tenants import Quota, QuotaName
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput, FleetError
from scheduler.http.access import caller_of, known_caller
from scheduler.http.body import tenant_of
from scheduler.http.problems import Problem, problem_response

_SENTENCES: dict[QuotaName, str] = {
    "concurrent_jobs": "this tenant occupies all the slots that it may",
    "waiting_jobs": "as many jobs of this tenant wait as may",
    "requests_per_s": "this tenant has made all the requests that it may in a second",
    "payload_bytes": "this tenant's payloads may not be as long",
}


def over_quota(name: QuotaName, quota: Quota, **more: Any) -> Problem:
    """429 that says which quota it was, its limit and when to try again."""
    limit = getattr(quota, name)
    # what is in force in Redis may be newer than what this replica knows
    known = {} if limit is None else {"limit": limit}
    more.setdefault("retry_after_ms", 1_000)
    return Problem(429, "Quota", _SENTENCES[name], **{"class": "quota"}, quota=name, **known, **more)


def payload_checked(wanted: JobRequest, quota: Quota) -> JobRequest:
    """The request; 413 where its payload is longer than the tenant's may be, which time does not mend."""
    most = quota.payload_bytes
    if most is not None and wanted.payload is not None and len(wanted.payload.encode()) > most:
        raise Problem(413, "Quota", f"payload must be at most {most} bytes as JSON", field="payload",
                      quota="payload_bytes", limit=most)  # fmt: skip
    return wanted


async def spend(engine: Engine, tenant: Tenant, requests: int) -> None:
    """Count so many requests of the tenant, if they are limited; 429 where they would be too many."""
    quota = engine.quota(tenant)
    if quota.requests_per_s is not None and not await engine.rates.take(tenant, quota.requests_per_s, requests):
        raise over_quota("requests_per_s", quota)


def _counts(request: Request) -> bool:
    """The API, and pages that a tenant's own key opens: these ask as much of Redis."""
    if request.scope["path"].startswith("/v1/"):
        return True
    caller = known_caller(request)
    return caller is not None and caller.tenant is not None


class Limited:
    """Stands before routing and the body. Who has no such quota costs Redis nothing."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        limited = scope["type"] == "http" and self._engine.has_quotas
        return (self._spending if limited else self._app)(scope, receive, send)

    async def _spending(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            # a node's heartbeats must not depend on what its tenant's clients do
            if _counts(request) and caller_of(request).role != "node":
                await spend(self._engine, tenant_of(request), 1)
        except BadInput:
            # a name that is none is told by the route
            pass
        except (Problem, FleetError) as error:
            # here, for further out it would be a crash in the log, without the request's id
            await (await problem_response(request, error))(scope, receive, send)
            return
        await self._app(scope, receive, send)
