"""Problem documents (RFC 9457): what went wrong, in which field, and when to try again."""

import logging
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from scheduler.errors import BadInput, FleetError


class Kind(NamedTuple):
    """One kind of problem, as readers of the API are told of it."""

    title: str
    statuses: tuple[int, ...]
    meaning: str

    @property
    def type(self) -> str:
        return _type(self.title)


def _type(title: str) -> str:
    return f"urn:fleet:{title.lower().replace(' ', '-')}"


# Every title that a Problem may have; a test holds the sources to it.
PROBLEMS = (
    Kind("Broken JSON", (400,), "the body is no JSON"),
    Kind("Broken msgpack", (400,), "the body is no msgpack"),
    Kind("Broken request", (400,), "what came is not HTTP/1.1"),
    Kind("Late request", (408,), "the whole request did not arrive within `arrival_ms`"),
    Kind("URL too long", (414,), "the path with its query is longer than a replica takes"),
    Kind("Headers too large", (431,), "the headers are more or longer than a replica takes"),
    Kind("Broken body", (400,), "the body ended before its length"),
    Kind("Unauthorized", (401,), "there is no key, or none that is good"),
    Kind(
        "Forbidden",
        (403,),
        "the pool that is named does not serve this tenant, or the key has not the role or tenant",
    ),
    Kind("Unknown job", (404,), "no job of this tenant has this id"),
    Kind("Unknown node", (404,), "no node has this id, or none that this tenant may see; a node registers again"),
    Kind("Unknown pool", (404,), "no pool has this name"),
    Kind("Unknown tenant", (404,), "the tenant has no quotas of its own, or is not the key's"),
    Kind("Unknown page", (404,), "the dashboard has no such page"),
    Kind("Not Found", (404,), "there is no such path"),
    Kind("Method Not Allowed", (405,), "the path has other methods: the header Allow names them"),
    Kind("Conflict", (409,), "the id was used for a job with another body"),
    Kind("Fenced", (409,), "the fence or the incarnation is an old one: stop this attempt, or this node"),
    Kind("Removed", (409,), "what was stored has been removed again by another call"),
    Kind("Body too large", (413,), "the body is over `body_max_bytes`"),
    Kind("Unsupported media type", (415,), "the body is neither JSON nor msgpack"),
    Kind("Invalid value", (422,), "`field` names what is wrong, `detail` says the limit"),
    Kind("Refused", (422, 503), "no node can take the job, by `class`; `reasons` counts what keeps the nodes away"),
    Kind("Quota", (413, 429), "the tenant has all that it may have of `quota`, by its `limit`"),
    Kind("Crowded", (503,), "as many jobs wait as may; `limit` says of what"),
    Kind("Unavailable", (503,), "Redis or this replica cannot answer now; `code` says why"),
    Kind("Not ready", (503,), "this replica cannot place jobs yet; `detail` says why"),
    Kind("Internal error", (500,), "a fault of the program; its log has more"),
)

JSON, MSGPACK = "application/json", "application/msgpack"
_HEADERS = "fleet.headers"
log = logging.getLogger("fleet.http")


class Problem(Exception):
    """An answer that is not the one hoped for."""

    def __init__(self, status: int, title: str, detail: str = "", **more: object) -> None:
        super().__init__(detail or title)
        self.status = status
        self.retry_after_ms = more.pop("retry_after_ms", None)
        self.challenge = more.pop("challenge", None)
        self.document: dict[str, Any] = {"type": _type(title), "title": title, "status": status}
        if detail:
            self.document["detail"] = detail
        self.document.update(more)

    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, wherever another try may help; of a 401 how to say who asks."""
        if isinstance(self.challenge, str):
            return {"www-authenticate": self.challenge}
        if not isinstance(self.retry_after_ms, int):
            return {}
        return {"retry-after": str(max(math.ceil(self.retry_after_ms / 1000), 1))}


def headers(scope: Scope) -> dict[bytes, bytes]:
    """The first header of each name; made once for a request, which is asked for seven of them."""
    found: dict[bytes, bytes] | None = scope.get(_HEADERS)
    if found is None:
        # of two under one name the one that is put in last stays
        found = scope[_HEADERS] = dict(reversed(scope["headers"]))
    return found


def header(request: Request, name: bytes) -> str | None:
    """The first header of this name, which is in small letters."""
    value = headers(request.scope).get(name)
    return None if value is None else str(value, "latin-1")


def wants_msgpack(request: Request) -> bool:
    """Accept decides; without it the answer comes as the question did."""
    packed = (header(request, b"content-type") or "").lower().startswith(MSGPACK)
    return _prefers_msgpack(header(request, b"accept") or "*/*", packed=packed)


@lru_cache(maxsize=64)
def _prefers_msgpack(accept: str, *, packed: bool) -> bool:
    weights = {kind: _weight(accept, kind) for kind in (JSON, MSGPACK)}
    return packed if weights[JSON] == weights[MSGPACK] else weights[MSGPACK] > weights[JSON]


def _weight(accept: str, kind: str) -> float:
    """The q that an Accept header gives a media type; the most specific range that holds it decides."""
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        text = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        found[name] = float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0
    return next((found[name] for name in (kind, "application/*", "*/*") if name in found), 0.0)


def problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case BadInput():
            return Problem(422, "Invalid value", f"{error.field} {error.what}", field=error.field)
        case FleetError():
            return Problem(503, "Unavailable", str(error), code=error.code, retry_after_ms=1_000)
        case HTTPException():
            return Problem(error.status_code, str(error.detail))
        case _:
            log.error("request_failed", exc_info=error)
            return Problem(500, "Internal error")


async def problem_response(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    packed = wants_msgpack(request)
    headers, document = problem.headers(), problem.document
    if request_id := request.scope.get("request_id"):
        document = {**document, "request_id": request_id}
        if problem.status == 500:
            # what nobody expected is answered further out than where the others get their header
            headers["x-request-id"] = request_id
    content = msgspec.msgpack.encode(document) if packed else msgspec.json.encode(document)
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    kind = "application/problem+msgpack" if packed else "application/problem+json"
    return Response(content, problem.status, headers, kind)
