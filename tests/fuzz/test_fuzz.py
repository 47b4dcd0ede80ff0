"""The short form of `python -m tests.fuzz`, always the same cases; and the judges do find what they are for."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from hypothesis import strategies as st

from scheduler.store.library import read_library
from tests.fuzz import __main__ as fuzz
from tests.fuzz.bodies import Bodies, Sent
from tests.fuzz.conformance import conform
from tests.fuzz.functions import WORDS, Call, Functions
from tests.fuzz.running import run
from tests.fuzz.stage import P, Stage, staged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SEED = 20_260_101
KEY = (P.encode(),)
BROKEN = """
redis.register_function('fleet1_raises', function() return redis.call('HGET') end)
redis.register_function('fleet1_writes', function(keys)
  redis.call('SET', keys[1] .. ':x', 1)
  return redis.error_reply('BADARG this is too late')
end)
redis.register_function('fleet1_babbles', function() return { 'unheard' } end)
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged() as found:
        yield found


def test_no_arguments_bring_a_function_to_raise_or_to_change_what_it_refuses() -> None:
    seen = fuzz.functions(900, SEED)
    assert seen.violations == []
    assert seen.cases == 900
    # not refusals alone: the sound calls among them are what makes the others near misses
    assert len(seen.outcomes) > 10


def test_no_body_brings_a_replica_to_fail_or_to_change_what_it_refuses(stage: Stage) -> None:
    seen = fuzz.bodies(stage, 900, SEED)
    assert seen.violations == []
    assert {"200", "201", "400", "404", "413", "415", "422"} <= seen.outcomes.keys()


def test_no_environment_or_file_is_anything_but_sound_or_bad_input() -> None:
    seen = fuzz.settings(400, SEED)
    assert seen.violations == []
    assert {"sound", "bad input"} == seen.outcomes.keys()


def test_the_document_says_what_a_live_replica_does(record_property: Any) -> None:
    with staged(keyed=True) as stage:
        done = conform(stage, examples=5)
        assert done.status == 0, done.said
        assert done.cases > 2_000
        assert stage.answers()
    record_property("figure", f"schemathesis: {done.cases:,} cases without a failure")


@pytest.mark.parametrize(
    ("name", "said"), [("raises", "raises: "), ("writes", "changed a key"), ("babbles", "answers unheard")]
)
def test_the_judge_of_functions_finds_each_kind_of_fault(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setitem(WORDS, name, {"ok"})
    judge = Functions(client, read_library().code + BROKEN).judge
    assert judge(Call("job_cancel", KEY, (b"j1",))) == "cancelled"
    with pytest.raises(AssertionError, match=said):
        judge(Call(name, KEY, ()))


def test_a_violation_is_counted_with_what_it_was(client: redis.Redis) -> None:
    judge = Functions(client, read_library().code + BROKEN).judge
    seen = run("broken", st.just(Call("raises", KEY, ())), judge, 10, SEED)
    assert seen.violations
    assert "raises: " in seen.violations[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, "application/json", b"{}"), "500"),
        ((418, "application/problem+json", b"{}"), "no such status"),
        ((422, "text/html", b"{}"), "text/html"),
        ((422, "application/problem+json", b'{"status":422,"detail":"ERR user_function"}'), "user_function"),
        ((422, "application/problem+json", b'{"status":422,"type":"urn:fleet:other"}'), "urn:fleet:other"),
    ],
)
def test_the_judge_of_bodies_finds_each_kind_of_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, bytes], said: str
) -> None:
    status, kind, body = answer
    monkeypatch.setattr(Bodies, "_ask", lambda *_: (status, {"content-type": kind}, body))
    with closing(Bodies(stage)) as judge, pytest.raises(AssertionError, match=said):
        judge.judge(Sent("POST", "/v1/jobs", "/v1/jobs", {}, b""))


def test_the_judge_of_bodies_finds_a_key_that_a_refused_call_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent("POST", "/v1/jobs", "/v1/jobs", {"content-type": "application/json", "accept": "*/*"}, b"{}")
    ask = Bodies._ask

    def asks_and_writes(self: Bodies, asked: Sent) -> tuple[int, dict[str, str], bytes]:
        stage.redis.set(f"{P}:x", 1)
        return ask(self, asked)

    with closing(Bodies(stage)) as judge:
        assert judge.judge(sent) == "422"
        monkeypatch.setattr(Bodies, "_ask", asks_and_writes)
        with pytest.raises(AssertionError, match=r"changed \['fleet:\{0\}:x'\]"):
            judge.judge(sent)
