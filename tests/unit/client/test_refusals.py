"""What an answer means: a replica's problem documents, and what balancers answer in its place."""

import pickle

import pytest

from scheduler.client.refusals import (
    Conflict,
    Crowded,
    Denied,
    Failed,
    Fenced,
    NoReplica,
    Refused,
    Unknown,
    document_of,
    error_of,
)
from scheduler.domain.reason import RefusalClass
from scheduler.errors import BadInput, FleetError


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (403, {"title": "Forbidden"}, Denied),
        (404, {"title": "Unknown job"}, Unknown),
        (409, {"title": "Conflict", "field": "id"}, Conflict),
        (409, {"title": "Fenced", "field": "fence"}, Fenced),
        (422, {"title": "Invalid value", "field": "wait_ms", "detail": "wait_ms must be less"}, BadInput),
        (413, {}, BadInput),
        (503, {"title": "Crowded", "limit": "tenant"}, Crowded),
        (503, {"title": "Unavailable", "code": "server_unavailable"}, NoReplica),
        (502, {}, NoReplica),
        (504, {}, NoReplica),
        (500, {"title": "Internal error"}, Failed),
        (302, {}, Failed),
        (503, {"class": "a newer one"}, Failed),
    ],
)
def test_each_status_has_its_exception(status: int, document: dict[str, object], kind: type[FleetError]) -> None:
    assert type(error_of(status, document)) is kind


def test_a_refusal_says_its_class_and_reasons_also_when_it_was_pickled() -> None:
    error = error_of(503, {"class": "overloaded", "reasons": {"full": 2, "cordoned": 1}, "snapshot_age_ms": 30})
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    for refused in (error, copied):
        assert isinstance(refused, Refused)
        assert (refused.class_, refused.reasons, refused.snapshot_age_ms) == (
            RefusalClass.OVERLOADED,
            {"full": 2, "cordoned": 1},
            30,
        )
    assert str(error) == str(copied) == "No node takes the job: overloaded, status 503 (2 full, 1 cordoned)"


def test_the_field_of_bad_input_is_named_once() -> None:
    error = error_of(422, {"detail": "wait_ms must be less", "field": "wait_ms"})
    assert str(error) == "Bad input: wait_ms must be less"


@pytest.mark.parametrize("content", [b"", b"<html>502 Bad Gateway</html>", b"[]", b"\xff"])
def test_what_is_no_problem_document_is_an_empty_one(content: bytes) -> None:
    assert document_of(content) == {}
