"""Bodies that nobody should send, on every route that takes one: each has an answer that the API's document names,
and one that is refused changes no key but the clocks.
"""

import http.client
import re
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import msgspec
from hypothesis import strategies as st

from scheduler.http.openapi import document
from tests.fuzz.functions import expired
from tests.fuzz.odd import BOMBS, KNOWN, MIB, TEXTS, VALUES, damaged, packed
from tests.fuzz.stage import P, Stage, seed

__all__ = ["Bodies", "Sent", "requests"]

RESEED_AFTER = 250
JSON, MSGPACK = "application/json", "application/msgpack"
# Words of Redis and of Python that no answer may carry.
RAW = re.compile(rb"user_function|INTERNAL |Traceback|WRONGTYPE|ERR |BADARG")
# Keys that a placement makes or changes.
_MADE = re.compile(r":(job|queue|session|inbox|events):?|leases|waiting|pending")
ROUTES = [
    (method.upper(), path, told)
    for path, methods in document()["paths"].items()
    for method, told in methods.items()
    if "requestBody" in told
]


class Sent(NamedTuple):
    method: str
    path: str
    route: str
    headers: dict[str, str]
    body: bytes


def _example(told: dict[str, Any]) -> Any:
    return told["requestBody"]["content"][JSON]["example"]


_SEGMENTS = st.one_of(st.sampled_from(KNOWN), st.sampled_from(KNOWN), TEXTS)
_TYPES = st.sampled_from(
    [*[MSGPACK] * 8, *[JSON] * 3, "application/msgpack; charset=x", "APPLICATION/JSON", "text/plain", "", "msgpack"]
)
_ACCEPTS = st.sampled_from(["*/*", MSGPACK, JSON, "application/json;q=0, */*", "text/html", "q=;;,", "application/*"])
_TENANTS = st.sampled_from([None, None, None, "default", "acme", "", "a b", "x" * 65, "\xff"])


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """A request to a route that takes a body, with a body that is damaged, of any shape, or no encoding at all."""
    method, path, told = draw(st.sampled_from(ROUTES))
    kind = draw(_TYPES)
    value = draw(st.one_of(damaged(_example(told)), damaged(_example(told)), VALUES, st.just(_example(told))))
    body = packed(value) if "msgpack" in kind else _json(value)
    match draw(st.integers(0, 11)):
        case 0:
            body = draw(BOMBS)
        case 1:
            body = draw(st.binary(max_size=64))
        case 2:
            body = body[: draw(st.integers(0, len(body)))]
        case 3:
            body = body + draw(st.binary(min_size=1, max_size=8))
        case 4:
            body = draw(st.sampled_from([body * 3, b" " * MIB, b" " * (MIB + 1), body + b"\0" * MIB]))
        case _:
            pass
    filled = re.sub(r"{\w+}", lambda _: quote(_usable(draw(_SEGMENTS)), safe=":"), path)
    headers = {"accept": draw(_ACCEPTS), "content-type": kind}
    if (tenant := draw(_TENANTS)) is not None:
        headers["x-fleet-tenant"] = tenant
    return Sent(method, filled, path, headers, body)


def _usable(text: str) -> str:
    """A segment that stays one: nothing that a path itself means."""
    return text.encode("utf-8", "replace").decode().replace("/", "_") or "-"


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=repr)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError, msgspec.MsgspecError):
        return repr(value).encode("utf-8", "replace")


class Bodies:
    """Judges requests to a live replica that nobody else uses."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._left = 0
        self._digest: object = None
        self._by_itself: object = None
        host, _, port = stage.url.removeprefix("http://").partition(":")
        self._http = http.client.HTTPConnection(host, int(port), timeout=30)

    def close(self) -> None:
        self._http.close()

    def _seed(self) -> None:
        seed(self._stage.redis)
        self._left = RESEED_AFTER
        self._by_itself = self._moved()
        self._digest = self._now()

    def _moved(self) -> tuple[object, int]:
        """What changes keys without any call: reaping, and keys whose time is over."""
        return self._stage.redis.hget(P, "reaped_ms"), expired(self._stage.redis)

    def _now(self) -> dict[str, str]:
        """Each key's digest; the shard's own meta has clocks that move by themselves, and requests are counted."""
        client = self._stage.redis
        named = cast("list[bytes]", client.keys("*"))
        # a request is counted before it is looked at
        keys = sorted(key for key in named if key != P.encode() and not key.startswith(f"{P}:rate:".encode()))
        digests = cast("list[bytes]", client.execute_command("DEBUG", "DIGEST-VALUE", *keys)) if keys else []
        return {key.decode(errors="replace"): digest.decode() for key, digest in zip(keys, digests, strict=True)}

    def _ask(self, sent: Sent) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value.encode("latin-1") for name, value in sent.headers.items()}
        self._http.request(sent.method, sent.path, sent.body, headers)
        answer = self._http.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def judge(self, sent: Sent) -> str:
        if self._left == 0:
            self._seed()
        self._left -= 1
        try:
            status, headers, body = self._ask(sent)
        except (http.client.HTTPException, OSError):
            # a connection that the server has closed after a request that it did not read to its end
            self._http.close()
            status, headers, body = self._ask(sent)
        self._check_answer(sent, status, headers, body)
        if status < 400:
            self._by_itself, self._digest = self._moved(), self._now()
            return str(status)
        now = self._now()
        if now == self._digest:
            return str(status)
        if (moved := self._moved()) != self._by_itself:
            self._by_itself, self._digest = moved, now
            return f"{status}, with changes meanwhile"
        changed = _changed(self._digest, now)
        if status in {422, 503} and b"urn:fleet:refused" in body and not any(map(_MADE.search, changed)):
            # a claim brings nodes that it meets under the present pools, also where it finds none that will do
            self._digest = now
            return f"{status} refused"
        # so that one fault is not found again in all that follows
        self._left = 0
        raise AssertionError(f"{sent.method} {sent.path} answers {status} and changed {changed[:5]}")

    def _check_answer(self, sent: Sent, status: int, headers: dict[str, str], body: bytes) -> None:
        said = f"{sent.method} {sent.path}: {status} {body[:300]!r}"
        assert status < 500 or status == 503, said
        assert not RAW.search(body), said
        operation = document()["paths"][sent.route][sent.method.lower()]
        assert str(status) in operation["responses"], f"no such status in the document: {said}"
        kind = headers["content-type"]
        assert kind in operation["responses"][str(status)]["content"], f"{kind}: {said}"
        decode = msgspec.msgpack.decode if kind.endswith("msgpack") else msgspec.json.decode
        told = cast("dict[str, Any]", decode(body))
        if status >= 400:
            assert told["status"] == status, said
            assert told["type"] in document()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"], said
        if status == 503:
            assert int(headers["retry-after"]) >= 1, said


def _changed(before: Any, now: Any) -> list[str]:
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
