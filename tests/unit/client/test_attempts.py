"""Where and when a call is tried again, told by what came of the last try."""

import httpx
import pytest

from scheduler.client import calls
from scheduler.client.attempts import Attempts
from scheduler.client.newjob import NewJob
from scheduler.client.refusals import NoReplica, Refused
from scheduler.client.urls import Urls
from scheduler.domain.pool import Pool

A, B = "http://a", "http://b"
PLACE = calls.place(NewJob(requires=["work"]), patient=True)
FULL = b'{"class": "overloaded", "reasons": {"full": 1}}'


def test_an_address_is_left_out_for_as_long_as_its_retry_after_says() -> None:
    attempts = Attempts(PLACE, Urls([A, B]), 10)
    first = attempts.turn()
    assert attempts.answered(first, 503, {"retry-after": "5"}, b"{}") is None
    assert {attempts.turn().url for _ in range(4)} == {A, B} - {first.url}


def test_a_retry_after_beyond_the_deadline_ends_the_call_at_once() -> None:
    attempts = Attempts(PLACE, Urls(A), 2)
    assert attempts.answered(attempts.turn(), 503, {"retry-after": "5"}, b'{"detail": "not ready"}') is None
    with pytest.raises(NoReplica, match="not ready"):
        attempts.turn()


def test_a_refusal_is_asked_again_after_its_time_and_leaves_no_address_out() -> None:
    urls = Urls([A, B])
    attempts = Attempts(PLACE, urls, 10)
    assert attempts.answered(attempts.turn(), 503, {"retry-after": "1"}, FULL) is None
    assert attempts.turn().pause_s == 1
    assert {urls.pick(0.0)[0] for _ in range(2)} == {A, B}


def test_a_refusal_that_cannot_change_and_one_of_an_impatient_call_are_raised() -> None:
    impossible = Attempts(PLACE, Urls(A), 10)
    with pytest.raises(Refused):
        impossible.answered(impossible.turn(), 422, {}, b'{"class": "impossible"}')
    impatient = Attempts(calls.place(NewJob(), patient=False), Urls(A), 10)
    with pytest.raises(Refused):
        impatient.answered(impatient.turn(), 503, {"retry-after": "1"}, FULL)


def test_what_is_not_safe_to_repeat_is_tried_again_only_where_nothing_was_sent() -> None:
    attempts = Attempts(calls.delete_pool("gold"), Urls([A, B]), 10)
    attempts.failed(attempts.turn(), httpx.ConnectError("refused"))
    with pytest.raises(NoReplica):
        attempts.failed(attempts.turn(), httpx.ReadTimeout("silent"))
    with pytest.raises(NoReplica):
        attempts.answered(attempts.turn(), 503, {"retry-after": "0"}, b"{}")


def test_no_try_is_longer_than_what_is_left() -> None:
    assert Attempts(PLACE, Urls(A), 0.5).turn().timeout_s <= 0.5
    assert Attempts(PLACE, Urls(A), 60).turn().timeout_s == 2
    assert Attempts(calls.job("a", 20_000), Urls(A), 60).turn().timeout_s == 22


def test_a_new_pool_is_sent_as_it_is_stored() -> None:
    body = calls.put_pool("gold", Pool(tenants=())).body
    assert body is not None
    # nobody must not become everybody on the way, and what the server refuses is left out
    assert b'"tenants":[]' in body
    assert b'"d"' not in body
    assert b'"languages"' not in body
