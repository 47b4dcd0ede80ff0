"""What an error becomes, and which format it is told in."""

import logging

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from scheduler.errors import BadInput, LibraryMismatch, Overrun, ServerUnavailable
from scheduler.http.problems import Problem, problem_of, problem_response, wants_msgpack


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


def test_bad_input_names_its_field() -> None:
    problem = problem_of(BadInput("slots", "must be at most 5"))
    assert problem.document == {
        "type": "urn:fleet:invalid-value",
        "title": "Invalid value",
        "status": 422,
        "detail": "slots must be at most 5",
        "field": "slots",
    }
    assert problem.headers() == {}


@pytest.mark.parametrize("kind", [ServerUnavailable, LibraryMismatch, Overrun])
def test_what_may_pass_is_503_with_its_code_and_retry_after(kind: type[ServerUnavailable]) -> None:
    problem = problem_of(kind("why"))
    assert (problem.status, problem.document["code"], problem.headers()) == (503, kind.code, {"retry-after": "1"})


@pytest.mark.parametrize(("given_ms", "told"), [(1, "1"), (1_000, "1"), (1_001, "2"), (3_000, "3")])
def test_retry_after_is_rounded_up_to_whole_seconds(given_ms: int, told: str) -> None:
    assert Problem(503, "Refused", retry_after_ms=given_ms).headers() == {"retry-after": told}


async def test_what_nobody_expected_is_500_in_the_log_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="fleet.http"):
        response = await problem_response(request(), RuntimeError("secret"))
    assert response.status_code == 500
    assert b"secret" not in bytes(response.body)
    assert [record.message for record in caplog.records] == ["request_failed"]


async def test_headers_of_the_framework_are_kept() -> None:
    response = await problem_response(request(), HTTPException(405, headers={"Allow": "GET"}))
    assert (response.status_code, response.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("accept", "kind", "packed"),
    [
        (None, "application/json", False),
        (None, "application/msgpack", True),
        (None, "Application/MsgPack", True),
        ("*/*", "application/json", False),
        ("application/json", "application/msgpack", False),
        ("application/msgpack", "application/json", True),
        ("application/msgpack;q=0.9, application/json;q=0.8", "application/json", True),
        ("application/msgpack;q=nan, application/json;q=0.1", "application/json", False),
        ("application/*;q=0.2, application/msgpack;q=0.1", "application/msgpack", False),
        (",;q=,,", "application/json", False),
    ],
)
def test_accept_decides_and_a_tie_goes_to_the_bodys_format(accept: str | None, kind: str, packed: bool) -> None:  # noqa: FBT001
    headers = {"content_type": kind} | ({} if accept is None else {"accept": accept})
    assert wants_msgpack(request(**headers)) is packed
