"""Every answer says which request it is of, whoever made the answer."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from scheduler.http.named import Named
from scheduler.http.problems import Problem, problem_response

_MADE_ONCE: tuple[Message, Message] = (
    {"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]},
    {"type": "http.response.body", "body": b""},
)


class Made:
    """An ASGI app, for Starlette takes a plain function for an endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        for message in _MADE_ONCE:
            await send(message)


async def _seen(request: Request) -> Response:
    return Response(str(request.scope.get("traceparent")))


async def _problem(_: Request) -> Response:
    raise Problem(404, "Unknown")


async def _broken(_: Request) -> Response:
    raise RuntimeError("nobody expected this")


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = Starlette(
        routes=[
            Route("/seen", _seen),
            Route("/problem", _problem),
            Route("/broken", _broken),
            Route("/made-once", Made()),
        ],
        middleware=[Middleware(Named, access_log=False)],
        exception_handlers={Problem: problem_response, Exception: problem_response},
    )
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://replica"
    )


@pytest.mark.parametrize("path", ["/seen", "/problem", "/broken", "/made-once", "/nowhere"])
async def test_each_answer_has_the_id_once(client: httpx.AsyncClient, path: str) -> None:
    for _ in range(2):
        response = await client.get(path, headers={"x-request-id": "mine"})
        assert response.headers.get_list("x-request-id") == ["mine"]
    if response.headers.get("content-type") == "application/problem+json":
        assert response.json()["request_id"] == "mine"
    assert _MADE_ONCE[0]["headers"] == [(b"content-length", b"0")]


async def test_ids_of_our_own_differ(client: httpx.AsyncClient) -> None:
    assert len({(await client.get("/seen")).headers["x-request-id"] for _ in range(50)}) == 50


@pytest.mark.parametrize("bad", [b"", b"x" * 129, b"a b", b"a\nb", b"\xff", b'"', b"a;b", b"<b>"])
async def test_a_bad_id_is_replaced(client: httpx.AsyncClient, bad: bytes) -> None:
    told = (await client.get("/problem", headers=[(b"x-request-id", bad)])).headers["x-request-id"]
    assert told.encode("latin-1") != bad
    assert told.isascii()


async def test_a_trace_is_read_on_the_way(client: httpx.AsyncClient) -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (await client.get("/seen", headers={"traceparent": good})).text == good
    assert (await client.get("/seen", headers={"traceparent": "no"})).text == ""
    assert (await client.get("/seen")).text == "None"
