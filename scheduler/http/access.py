"""Who asks, and whether they may: the one place that reads keys, and the one that holds them against a route."""

from collections.abc import Awaitable, Callable
from functools import partial
from http.cookies import CookieError, SimpleCookie

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from scheduler.domain.apikey import ANYONE, Caller, Roles
from scheduler.engine.keyring import Keyring
from scheduler.errors import FleetError
from scheduler.http.problems import Problem, header, headers
from scheduler.store.actor import Acting

Endpoint = Callable[[Request], Awaitable[Response]]

COOKIE = "fleet_session"
_CALLER = "fleet.caller"
_SAFE = frozenset({"GET", "HEAD"})


def cookie_of(request: Request) -> str | None:
    """The key of a session in the browser."""
    given = header(request, b"cookie")
    if given is None or COOKIE not in given:
        return None
    try:
        found = SimpleCookie(given).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


class Authenticated:
    """Notes who asks, for the routes and whatever else stands behind; it turns nobody away.

    A browser sends its cookie by itself, also for others: under /v1 it is good for reading only, and the dashboard's
    forms carry a mark of their own.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, open_paths: frozenset[str]) -> None:
        """Of open paths, those that end in a slash stand for all below them."""
        self._app = app
        self._keyring = keyring
        self._open = open_paths
        self._open_folders = tuple(path for path in open_paths if path.endswith("/"))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # what is not to be waited for is passed on as it is, here and in what stands beside it: each await of a
        # placement is one more to come back through
        if scope["type"] != "http" or scope["path"] in self._open or scope["path"].startswith(self._open_folders):
            return self._app(scope, receive, send)
        if not self._keyring.asks:
            scope[_CALLER] = ANYONE
            return self._app(scope, receive, send)
        return self._asked(scope, receive, send)

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> None:
        key, cookie = _key(scope)
        try:
            caller = await self._keyring.caller(key)
        except FleetError as error:
            scope[_CALLER] = error
        else:
            if cookie and caller is not None and caller.key is not None:
                caller = replace(caller, cookie=True)
            scope[_CALLER] = caller
        await self._app(scope, receive, send)


def _key(scope: Scope) -> tuple[str | None, bool]:
    """The key that comes with a request, and whether a cookie brought it."""
    if b"authorization" in headers(scope):
        for name, value in scope["headers"]:
            # a password for a proxy on the way is none of ours
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                return str(value[7:], "latin-1").strip(), False
    reads = scope["method"] in _SAFE or not scope["path"].startswith("/v1/")
    return (cookie_of(Request(scope)) if reads else None), True


def known_caller(request: Request) -> Caller | None:
    """Who asks, for what everybody may see; None also where it was not asked."""
    caller = request.scope.get(_CALLER)
    return caller if isinstance(caller, Caller) else None


def caller_of(request: Request) -> Caller:
    """Who asks; a 401 where that is not known."""
    caller = request.scope[_CALLER]
    if isinstance(caller, FleetError):
        raise caller
    if isinstance(caller, Caller):
        return caller
    raise _unauthorized(request)


def _unauthorized(request: Request) -> Problem:
    if header(request, b"authorization") is None:
        what, more = "an API key is needed: Authorization: Bearer fleet_...", ""
    else:
        what, more = "the API key is not one that is known, or its time is over", ', error="invalid_token"'
    return Problem(401, "Unauthorized", what, challenge=f'Bearer realm="fleet"{more}')


def still_admitted(request: Request) -> None:
    """Raise where the key has ended since: for what took its time."""
    if not request.app.state.engine.keyring.admits(caller_of(request)):
        raise _unauthorized(request)


def origin_host(origin: str) -> str:
    """Host and port of a page's address, which may be anything that somebody sends."""
    return origin.partition("://")[2]


def _of_another_site(request: Request) -> bool:
    """Whether a browser asks on behalf of a page of another address; a program says nothing of this."""
    site, origin = header(request, b"sec-fetch-site"), header(request, b"origin")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and origin_host(origin) != header(request, b"host")


def admit(request: Request, roles: Roles, *, whole: bool) -> None:
    """Raise unless the caller may use such a route; what it may see there is for the route to mind."""
    caller = caller_of(request)
    if caller.role not in roles or (whole and caller.tenant is not None):
        names = " or ".join(sorted(roles))
        every = " for every tenant (*)" if whole else ""
        raise Problem(403, "Forbidden", f"this needs a key of the role {names}{every}")
    if caller.node is not None and request.path_params.get("node", caller.node) != caller.node:
        raise Problem(403, "Forbidden", f"this key is bound to the node {caller.node}", field="node")
    if caller.key is None and request.method not in _SAFE and _of_another_site(request):
        raise Problem(403, "Forbidden", "without a key no page of another address may change anything here")
    if caller.tenant is not None and header(request, b"x-fleet-tenant") not in {None, caller.tenant}:
        raise Problem(403, "Forbidden", f"this key is bound to the tenant {caller.tenant}", field="X-Fleet-Tenant")


def _actor(request: Request) -> str:
    """Who acts, for the audit; nobody where a tenant's program or a node minds its own jobs."""
    caller = caller_of(request)
    if caller.role not in {"operator", "admin"}:
        return ""
    if caller.key is not None:
        return f"key:{caller.key}"
    return f"http:{request.client.host if request.client else '-'}"


def guarded(endpoint: Endpoint, roles: Roles | None, *, whole: bool, audited: bool) -> Endpoint:
    """The endpoint for those who may; without roles for everybody."""
    if roles is None:
        return endpoint

    async def admitted(request: Request) -> Response:
        admit(request, roles, whole=whole)
        return await endpoint(request)

    async def acting(request: Request) -> Response:
        admit(request, roles, whole=whole)
        with Acting(partial(_actor, request)):
            return await endpoint(request)

    return acting if audited else admitted
