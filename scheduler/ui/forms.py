"""What stands between a form and an act: headers that keep foreign code out, the sender, and the session's mark."""

import hashlib
import hmac
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scheduler.http.access import caller_of, cookie_of, origin_host
from scheduler.http.body import read_body
from scheduler.http.problems import Problem

FORM = "application/x-www-form-urlencoded"
SIGN_IN = "/ui/sign-in"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


def csrf_of(request: Request) -> str:
    """The mark that this session's forms carry: another site cannot know it, for it cannot read the cookie."""
    return hmac.new((cookie_of(request) or "").encode(), b"a form of the dashboard", hashlib.sha256).hexdigest()


def check_origin(request: Request) -> None:
    """403 unless a page of this very address sent the form: another site must not act through a person's browser.

    Every browser names the sender; what names none is a program, and has the routes under /v1.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site == "same-origin"
    else:
        same = origin is not None and origin_host(origin) == request.headers.get("host")
    if not same:
        raise Problem(
            403, "Forbidden", "Only the dashboard's own pages may act here; programs use the routes under /v1."
        )


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form that a page of this address sent."""
    check_origin(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Problem(415, "Unsupported media type", f"Content-Type must be {FORM}")
    body = await read_body(request)
    return {name: values[-1] for name, values in parse_qs(body.decode("latin-1")).items()}


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that may act; of somebody who has signed in it must carry the session's mark."""
    fields = await fields_of(request)
    marked = hmac.compare_digest(fields.pop("csrf", "").encode(), csrf_of(request).encode())
    if caller_of(request).cookie and not marked:
        raise Problem(403, "Forbidden", "The form is not of this session: load the page again, and send it again.")
    return fields


def sign_in_first(request: Request) -> Response:
    """To the page for signing in, and then back to where the person was going."""
    query = f"?{request.url.query}" if request.url.query else ""
    going = request.url.path + query if request.method == "GET" else "/"
    return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': going})}", 303, HEADERS)
