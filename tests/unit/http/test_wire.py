"""Digests, ids and labels, without a server."""

import msgspec
import pytest

from scheduler.domain.ids import Tenant
from scheduler.http.body import decoded
from scheduler.http.wire import JobBody, RegisterBody, job_request, reported

TENANT = Tenant("acme")


def digest(raw: bytes, *, packed: bool = False) -> str:
    return job_request(decoded(raw, JobBody, packed=packed), TENANT, packed=packed).digest


def test_a_digest_looks_through_spelling_but_not_through_meaning() -> None:
    plain = digest(b'{"id":"a","requires":["x","y"],"payload":{"k":[1,2]}}')
    assert plain == digest(b'{"requires": ["y", "x", "x"], "id": "a", "payload": {"k" : [1 , 2]}}')
    value = {"id": "a", "requires": ["x", "y"], "payload": {"k": [1, 2]}}
    assert plain == digest(msgspec.msgpack.encode(value), packed=True)
    assert plain == digest(b'{"id":"a","requires":["x","y"],"payload":{"k":[1,2]},"priority":5}')
    others = [
        b'{"id":"a","requires":["x"],"payload":{"k":[1,2]}}',
        b'{"id":"a","requires":["x","y"],"payload":{"k":[2,1]}}',
        b'{"id":"a","requires":["x","y"],"payload":"{\\"k\\":[1,2]}"}',
        b'{"id":"a","requires":["x","y"]}',
        b'{"id":"a","requires":["x","y"],"payload":null}',
        b'{"id":"a","requires":["x","y"],"payload":{"k":[1,2]},"deliver":"direct"}',
    ]
    assert len({plain, *map(digest, others)}) == len(others) + 1


def test_a_digest_is_of_the_languages_and_services_and_not_of_their_spelling() -> None:
    plain = digest(b'{"id":"a","services":["asr","nmt","tts"],"src":"zh","tgt":"en"}')
    assert plain == digest(b'{"id":"a","services":["tts","nmt","asr","asr"],"src":"cmn-Hans","tgt":"EN_us"}')
    others = [
        b'{"id":"a","services":["asr","tts"],"src":"zh","tgt":"en"}',
        b'{"id":"a","services":["asr","nmt","tts"],"src":"zh-TW","tgt":"en"}',
        b'{"id":"a","services":["asr","nmt","tts"],"src":"auto","tgt":"en"}',
        b'{"id":"a","services":["asr","nmt","tts"],"src":"zh","tgt":"en","requires":["gpu"]}',
        b'{"id":"a","services":["asr","nmt","tts"],"src":"zh","tgt":"en","pool":"gold"}',
        b'{"id":"a","services":["asr"],"src":"zh","tgt":"en"}',
        b'{"id":"a","services":["asr"],"src":"zh"}',
    ]
    assert len({plain, *map(digest, others)}) == len(others) + 1


def test_a_job_of_the_clients_naming_is_stored_under_its_tenant() -> None:
    body = JobBody(requires=["x"], id="a")
    assert job_request(body, TENANT, packed=False).id == "acme:a"


def test_labels_travel_as_words_and_absent_fields_not_at_all() -> None:
    body = RegisterBody(endpoint="http://n", slots=1, capabilities=["a"], labels={"zone": "a", "tier": ""}, cpu=12.5)
    assert reported(body, "cpu", "gpu", "labels", "ttl_ms") == {"cpu": "12.500", "labels": "zone=a tier="}


@pytest.mark.parametrize("text", ["a b", "a=b", "x\n", "é", "x" * 129])
def test_a_label_that_would_not_be_one_word_is_not_accepted(text: str) -> None:
    raw = msgspec.json.encode({"endpoint": "http://n", "slots": 1, "capabilities": ["a"], "labels": {"k": text}})
    with pytest.raises(Exception, match="labels"):
        decoded(raw, RegisterBody, packed=False)
