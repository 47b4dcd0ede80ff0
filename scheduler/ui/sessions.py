"""Signing in to the dashboard: a pasted key makes a key of the browser's own, which ends with the other one."""

import re
import secrets
import time

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scheduler.domain.apikey import Caller, KeyId, key_text, session_of
from scheduler.engine.engine import Engine
from scheduler.http.access import COOKIE, caller_of
from scheduler.http.problems import Problem
from scheduler.ui.forms import HEADERS, SIGN_IN, fields_of, form_of
from scheduler.ui.pages import page, render

LASTS_MS = 12 * 3_600_000
# More browsers than this with one key: the oldest is signed out.
SESSIONS_MAX = 32
_NEXT = re.compile(r"^/(?:ui/[A-Za-z0-9._:/?&=%+-]{0,1000})?\Z")


def _going(asked: str) -> str:
    return asked if _NEXT.match(asked) else "/"


def _asking(request: Request, going: str, status: int = 200, wrong: str = "") -> Response:
    return render(request, "sign-in.html", status, going=going, wrong=wrong)


@page
async def ask_sign_in(request: Request) -> Response:
    return _asking(request, _going(request.query_params.get("next", "/")))


@page
async def sign_in(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    fields = await fields_of(request)
    going = _going(fields.get("next", "/"))
    caller = await engine.keyring.caller(fields.get("key", "").strip())
    if caller is None or caller.role == "node":
        return _asking(request, going, 403, "This key is not known, its time is over, or it is a node's.")
    answer = RedirectResponse(going, 303, HEADERS)
    if caller.key is not None:
        text = await _session(engine, caller, caller.key)
        secure = "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "")}
        answer.set_cookie(
            COOKIE, text, max_age=LASTS_MS // 1000, path="/", secure=secure, httponly=True, samesite="strict"
        )
    return answer


async def _session(engine: Engine, caller: Caller, parent: KeyId) -> str:
    """The text of a new key that may what this one may."""
    key = engine.keyring.key(parent)
    if key is None or key.parent is not None:
        raise Problem(403, "Forbidden", "A session's own key signs nobody in.")
    functions = engine.first.functions
    for old in engine.keyring.sessions(parent)[: 1 - SESSIONS_MAX]:
        await functions.apikey_remove(old)
    id_, secret = KeyId(secrets.token_hex(8)), secrets.token_urlsafe(32)
    await functions.apikey_put(id_, session_of(caller, key, secret, int(time.time() * 1000), LASTS_MS))
    await engine.keyring.refresh()
    return key_text(id_, secret)


@page
async def sign_out(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    await form_of(request)
    caller = caller_of(request)
    if caller.cookie and caller.key is not None:
        await engine.first.functions.apikey_remove(caller.key)
        await engine.keyring.refresh()
    answer = RedirectResponse(SIGN_IN, 303, HEADERS)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer
