"""What a connection may cost a replica that is reached without a proxy. Each limit is met over a real socket."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec
import psutil
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

import scheduler.http.body
from scheduler.app import create_app
from scheduler.http.connections import Limits
from scheduler.settings import Settings
from tests.e2e.conftest import register, wait_until
from tests.integration.http.listening import Wire, served
from tests.sharded import Shards

SOON = Limits(arrival_s=0.4, idle_s=0.6, untaken_s=0.6)
GET = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
Live = Callable[..., int]


@pytest.fixture
def live(redis_url: str) -> Iterator[Live]:
    """Start a replica with these limits; its port."""
    with ExitStack() as running:

        def start(limits: Limits = SOON) -> int:
            settings = Settings(redis_url=redis_url, body_max_bytes=limits.body_bytes)
            return running.enter_context(served(create_app(settings), limits))

        yield start


def problem(wire: Wire, status: int) -> dict[str, object]:
    """The next answer, which must be this problem and the last one."""
    told, body = wire.answer()
    assert told == status, body
    assert wire.ended(5)
    assert wire.heard == b""
    document: dict[str, object] = msgspec.json.decode(body)
    assert document["status"] == status
    return document


@pytest.mark.parametrize("before", [b"", GET], ids=["at first", "behind another"])
@pytest.mark.parametrize(
    "sent", [b"GET /healthz HTTP/1.1\r\nx-a: b", POST + b"content-length: 1000\r\n\r\n{"], ids=["head", "body"]
)
def test_a_request_that_comes_byte_by_byte_is_408_in_time(live: Live, before: bytes, sent: bytes) -> None:
    with Wire(live()) as wire:
        if before:
            assert wire.say(before)
            assert wire.answer() == (200, b"ok\n")
        assert wire.say(sent)
        took = wire.drip(b"x", 0.05, 5)
        assert 0.2 < took < 3
        assert problem(wire, 408)["title"] == "Late request"


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "line ends"])
def test_a_connection_that_asks_for_nothing_is_let_go(live: Live, sent: bytes) -> None:
    with Wire(live()) as wire:
        if sent:
            assert wire.drip(sent, 0.05, 5) < 3
        else:
            assert wire.ended(5)
        assert wire.heard == b""


def test_an_idle_connection_is_let_go_and_a_busy_one_is_not(live: Live) -> None:
    with Wire(live()) as wire:
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:
            assert wire.say(GET)
            assert wire.answer()[0] == 200
            time.sleep(0.1)
        begun = time.monotonic()
        assert wire.ended(5)
        assert time.monotonic() - begun > 0.3


def test_a_long_poll_is_not_taken_for_a_slow_or_an_idle_client(live: Live, shards: Shards) -> None:
    register(shards, "n1", "a")
    with Wire(live(Limits(arrival_s=1.5, idle_s=1.5))) as wire:
        body = b'{"requires":["a"],"deliver":"direct"}'
        assert wire.say(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
        status, placed = wire.answer()
        assert status == 201, placed
        job = msgspec.json.decode(placed)["job"]["id"]
        assert wire.say(b"GET /v1/jobs/%s?wait_ms=3000 HTTP/1.1\r\nhost: a\r\n\r\n" % job.encode())
        # what is sent behind it is not read meanwhile, so its time does not run either
        assert wire.say(POST + b"content-length: %d\r\n\r\n" % len(body) + body[:20])
        begun = time.monotonic()
        assert wire.answer()[0] == 200
        assert time.monotonic() - begun > 2.5
        assert wire.say(body[20:])
        assert wire.answer()[0] == 201


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n" + b"x-a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nx-a: " + b"b" * 33_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nx-a: " + b"b" * 1_000_000, 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"x-a: b\r\n" * 100_000, 431),
        (b"GET /healthz?" + b"a" * 8_192 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"a" * 1_000_000, 414),
    ],
    ids=["101 headers", "a long header", "an endless header", "endless headers", "a long URL", "an endless URL"],
)
def test_a_head_beyond_the_limits_is_refused_and_the_connection_ends(live: Live, sent: bytes, status: int) -> None:
    with Wire(live()) as wire:
        wire.say(sent)
        problem(wire, status)


def test_a_head_up_to_the_limits_is_taken(live: Live) -> None:
    with Wire(live(Limits())) as wire:
        assert wire.say(b"GET /healthz?" + b"a" * 8_100 + b" HTTP/1.1\r\n" + b"x-a: " + b"b" * 200 + b"\r\n")
        assert wire.say(b"x-a: b\r\n" * 98 + b"\r\n")
        assert wire.answer() == (200, b"ok\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_body_without_a_length_is_413_as_soon_as_it_is_too_large_and_is_not_read_for_ever(live: Live) -> None:
    limits = Limits(body_bytes=65_536)
    with Wire(live(limits)) as wire:
        assert wire.say(POST + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(10):
            assert wire.say(chunk(b" " * 8_192))
        assert wire.answer()[0] == 413
        sent = 0
        while wire.say(chunk(b" " * 8_192)):
            sent += 8_192
            # what the two sockets hold comes on top of it
            assert sent < limits.wire_bytes + 16_000_000
        assert wire.ended(5)


def test_after_a_413_the_same_connection_serves_on(live: Live) -> None:
    with Wire(live(Limits(body_bytes=65_536, idle_s=0.6))) as wire:
        assert wire.say(POST + b"content-length: 100000\r\n\r\n" + b" " * 50_000)
        assert wire.answer()[0] == 413
        assert wire.say(b" " * 50_000)
        assert wire.say(GET)
        assert wire.answer() == (200, b"ok\n")
        assert wire.say(POST + b"content-length: 100000\r\n\r\n")
        assert wire.answer()[0] == 413
        # the rest is read after the answer, and then it is idle as any other
        assert wire.say(b" " * 100_000)
        assert wire.ended(5)


async def told_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the headers that are there once the body has been read."""
    request = Request(scope, receive)
    await request.body()
    await Response(repr(request.headers.items()))(scope, receive, send)


def test_trailers_never_become_headers_and_have_an_end() -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    with served(told_headers, Limits(body_bytes=65_536)) as port, Wire(port) as wire:
        assert wire.say(head + chunk(b"{}") + b"0\r\nx-fleet-tenant: other\r\n\r\n")
        status, body = wire.answer()
        assert (status, b"other" in body, b"host" in body) == (200, False, True)
        assert wire.say(head + chunk(b"{}") + b"0\r\n")
        sent = 0
        while wire.say(b"x-a: b\r\n" * 1_000):
            sent += 8_000
            assert sent < 30_000_000
        assert wire.ended(5)


async def after_a_while(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.3)
    await Response(scope["path"])(scope, receive, send)


def test_requests_that_are_sent_ahead_are_answered_in_order_up_to_a_number() -> None:
    def ask(count: int) -> bytes:
        return b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(count))

    with served(after_a_while, Limits(pipelined=8)) as port:
        with Wire(port) as wire:
            assert wire.say(ask(9))
            assert [wire.answer() for _ in range(9)] == [(200, b"/%d" % number) for number in range(9)]
        with Wire(port) as wire:
            wire.say(ask(10_000))
            assert wire.ended(5)
            # nobody is told anything that is not the answer to his own question
            assert wire.heard == b""


def test_whoever_goes_with_requests_behind_one_another_is_seen_to_go() -> None:
    seen: list[str] = []

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - nobody is there to answer to
        if scope["type"] != "http":
            return
        while (await receive())["type"] == "http.request":
            seen.append("begun")
        seen.append("gone")

    with served(waits, Limits()) as port:
        with Wire(port) as wire:
            assert wire.say(GET * 3)
            wait_until(lambda: "begun" in seen, "the first is being served")
        wait_until(lambda: "gone" in seen, "it hears that its client has gone", 3)


def test_where_all_places_are_taken_one_that_asks_for_nothing_makes_room(live: Live) -> None:
    port = live(Limits(connections=8))
    with ExitStack() as held:
        before = [held.enter_context(Wire(port)) for _ in range(8)]
        for wire in before:
            assert wire.say(GET)
            assert wire.answer()[0] == 200
        for _ in range(20):
            with Wire(port) as wire:
                assert wire.say(GET)
                assert wire.answer()[0] == 200
        # long before it would be for its idleness
        assert before[0].ended(2)


def test_where_all_are_busy_another_is_503_and_those_are_served_on(live: Live, shards: Shards) -> None:
    register(shards, "n1", "a")
    port = live(Limits(connections=4))
    body = b'{"requires":["a"],"deliver":"direct"}'
    with ExitStack() as held:
        busy = [held.enter_context(Wire(port)) for _ in range(4)]
        for wire in busy:
            assert wire.say(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
            status, placed = wire.answer()
            assert status == 201, placed
            job = msgspec.json.decode(placed)["job"]["id"].encode()
            assert wire.say(b"GET /v1/jobs/%s?wait_ms=3000 HTTP/1.1\r\nhost: a\r\n\r\n" % job)
        time.sleep(0.3)
        with Wire(port) as wire:
            told, answered = wire.answer()
            assert (told, msgspec.json.decode(answered)["code"]) == (503, "overrun")
            assert wire.ended(5)
        assert [wire.answer()[0] for wire in busy] == [200] * 4


async def floods(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - it asks for nothing
    """Much more than any socket holds, bit by bit."""
    if scope["type"] != "http":
        return
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    for _ in range(2_000):
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await asyncio.sleep(0)


async def much(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await Response(b"x" * 32_000_000)(scope, receive, send)


def open_on(port: int) -> int:
    """Connections of this process's server."""
    return sum(
        connection.status in {"ESTABLISHED", "FIN_WAIT1", "CLOSE_WAIT"}
        for connection in psutil.Process().net_connections("tcp")
        if connection.laddr[1:] == (port,)
    )


@pytest.mark.parametrize("closing", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
@pytest.mark.parametrize("app", [floods, much])
def test_a_client_that_does_not_take_its_answer_is_let_go(app: object, closing: bytes) -> None:
    with served(app, SOON) as port, Wire(port, takes_bytes=4_096) as wire:  # type: ignore[arg-type]
        assert wire.say(b"GET / HTTP/1.1\r\nhost: a\r\n" + closing + b"\r\n")
        wait_until(lambda: open_on(port) == 1, "it is served")
        wait_until(lambda: open_on(port) == 0, "it is let go", 6)


def test_of_too_many_answers_that_nobody_takes_the_oldest_goes() -> None:
    with served(much, Limits(untaken_answers=2)) as port, ExitStack() as held:
        wires = []
        for _ in range(4):
            wires.append(held.enter_context(Wire(port, takes_bytes=4_096)))
            assert wires[-1].say(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            time.sleep(0.2)
        wait_until(lambda: open_on(port) == 2, "two have gone")
        # what is on its way is still heard before the end
        assert [wire.ended(5) for wire in wires[:2]] == [True, True]
        assert open_on(port) == 2


def test_bodies_on_their_way_have_a_bound_together_and_small_ones_go_through(
    live: Live, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler.http.body, "BODIES_MAX_BYTES", 250_000)
    register(shards, "n1", "a")
    port = live(Limits())
    large, small = POST + b"content-length: 200000\r\n\r\n", b'{"requires":["a"],"deliver":"direct"}'
    with Wire(port) as first:
        assert first.say(large + b" " * 180_000)
        time.sleep(0.3)
        with Wire(port) as second:
            assert second.say(large + b" " * 180_000)
            told, answered = second.answer()
            assert (told, msgspec.json.decode(answered)["code"]) == (503, "overrun")
        with Wire(port) as third:
            assert third.say(POST + b"content-length: %d\r\n\r\n" % len(small) + small)
            assert third.answer()[0] == 201
    # what a client that went had sent no longer counts
    end = time.monotonic() + 5
    status = 503
    while status == 503:
        assert time.monotonic() < end
        with Wire(port) as fourth:
            assert fourth.say(large + b" " * 200_000)
            status = fourth.answer()[0]
    assert status == 400, "so many spaces are no JSON"


BROKEN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 1_000,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nbad\x00name: a\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    b"POST /v1/jobs HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    b"POST /v1/jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def test_what_is_no_http_is_400_ends_and_fills_no_log(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    port = live(Limits())
    with caplog.at_level(logging.WARNING):
        for sent in BROKEN * 3:
            with Wire(port) as wire:
                wire.say(sent)
                problem(wire, 400)
    assert len([record for record in caplog.records if record.name == "uvicorn.error"]) <= 1
    with Wire(port) as wire:
        assert wire.say(GET)
        assert wire.answer()[0] == 200
