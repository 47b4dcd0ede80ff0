"""Bodies in and out: JSON or msgpack by Content-Type and Accept, within the limit."""

import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.ids import Tenant, checked_id
from scheduler.errors import BadInput, Overrun
from scheduler.http.access import caller_of
from scheduler.http.problems import JSON, MSGPACK, Problem, header, wants_msgpack
from scheduler.logs import bind

T = TypeVar("T")
# Of all requests together. One that is whole at once, as nearly every one is, does not count.
BODIES_MAX_BYTES = 67_108_864
_DECODERS: dict[tuple[type[Any], bool], Any] = {}
# The decoder names the field either as a path at the end or, for a field too many or too few, in the sentence.
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED = re.compile(r"^Object (?:contains unknown|missing required) field `([^`]*)`")


def tenant_of(request: Request) -> Tenant:
    """The tenant of the caller's key, or of all tenants, which such a key may name, the one in the header."""
    if (own := caller_of(request).tenant) is not None:
        return own
    named = header(request, b"x-fleet-tenant")
    tenant = Tenant("default" if named is None else checked_id("X-Fleet-Tenant", named))
    bind(tenant=tenant)
    return tenant


def is_packed(request: Request) -> bool:
    """Whether the body is msgpack; any other type than that and JSON is 415."""
    kind = header(request, b"content-type")
    if kind is None or kind == JSON:
        return False
    kind = kind.partition(";")[0].strip().lower()
    if kind not in {JSON, MSGPACK}:
        raise Problem(415, "Unsupported media type", f"Content-Type must be {JSON} or {MSGPACK}")
    return kind == MSGPACK


class Bodies:
    """How much of bodies that are still on their way a replica holds."""

    def __init__(self) -> None:
        self.held = 0

    def take(self, size: int) -> None:
        """Overrun where it would be too much; the caller gives back what it took."""
        if self.held + size > BODIES_MAX_BYTES:
            raise Overrun(f"more than {BODIES_MAX_BYTES} bytes of bodies are on their way")
        self.held += size


async def read_body(request: Request) -> bytes:
    """The whole body; 413 as soon as it is known to be over the limit."""
    limit: int = request.app.state.engine.settings.body_max_bytes
    length = header(request, b"content-length") or ""
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise _too_large(limit)
    bodies: Bodies = request.app.state.bodies
    body, taken = b"", 0
    try:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "Broken body", "the body ended before its length", field="body")
            chunk: bytes = message.get("body", b"")
            body = body + chunk if body else chunk
            if len(body) > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return body
            bodies.take(len(chunk))
            taken += len(chunk)
    finally:
        bodies.held -= taken


def _too_large(limit: int) -> Problem:
    return Problem(413, "Body too large", f"body must be at most {limit} bytes", field="body")


def decoded(raw: bytes | msgspec.Raw, kind: type[T], *, packed: bool) -> T:
    """The value, checked against its shape; 400 where it is broken, 422 where it is not acceptable."""
    decoder = _DECODERS.get((kind, packed))
    if decoder is None:
        decoder = msgspec.msgpack.Decoder(kind) if packed else msgspec.json.Decoder(kind)
        _DECODERS[kind, packed] = decoder
    try:
        value: T = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        name = "msgpack" if packed else "JSON"
        raise Problem(400, f"Broken {name}", f"body is not {name}: {error}", field="body") from error
    return value


def _invalid(message: str) -> Problem:
    at, named = _PATH.search(message), _NAMED.match(message)
    path = [part for part in (at and at[1], named and named[1]) if part]
    field = ".".join(path) or "body"
    return Problem(422, "Invalid value", message.replace("`$.", "`"), field=field)


async def read_as(request: Request, kind: type[T]) -> T:
    packed = is_packed(request)
    return decoded(await read_body(request), kind, packed=packed)


def answer(request: Request, value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    packed = wants_msgpack(request)
    content = msgspec.msgpack.encode(value) if packed else msgspec.json.encode(value)
    return Response(content, status, headers, MSGPACK if packed else JSON)


def number_query(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 12 or not low <= int(text) <= high:
        raise BadInput(name, f"must be a whole number from {low} to {high}")
    return int(text)
