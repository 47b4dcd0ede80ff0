"""What a record looks like on stderr, whatever is put into it."""

import asyncio
import json
import logging
from typing import Any

import pytest

from scheduler.logs import Json, Line, Text, bind

PASSWORD = 'pa"ss\\w0rd'


def record(message: object, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    trouble = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("fleet.test", logging.WARNING, __file__, 1, message, args, trouble)


def in_json(*given: Any, **more: Any) -> dict[str, Any]:
    text = Json([PASSWORD]).format(record(*given, **more))
    assert "\n" not in text
    told: dict[str, Any] = json.loads(text)
    return told


def in_text(*given: Any, **more: Any) -> str:
    return Text([PASSWORD]).format(record(*given, **more))


def raised(text: str) -> BaseException:
    def trouble() -> None:
        raise ValueError(text)

    try:
        trouble()
    except ValueError as error:
        return error
    raise AssertionError


def test_an_event_has_its_fields_one_by_one() -> None:
    told = in_json(Line("redis_away", node="n1", tries=3, why=None))
    at = told.pop("at")
    assert (at[10], at[-6:]) == ("T", "+00:00")
    assert told == {
        "level": "WARNING", "logger": "fleet.test", "event": "redis_away", "node": "n1", "tries": 3, "why": None,
    }  # fmt: skip


def test_the_same_in_text() -> None:
    date, level, told = in_text(Line("redis_away", node="n1", error='it "says" no')).split(" ", 2)
    assert date.endswith("Z")
    assert (level, told) == ("WARNING", 'redis_away node=n1 error="it \\"says\\" no"')


def test_a_program_with_logs_of_its_own_has_the_fields_too() -> None:
    assert logging.Formatter("%(message)s").format(record(Line("node_left", node="n1"))) == "node_left node=n1"


def test_records_of_others_have_their_message_as_the_event() -> None:
    assert in_json("hello %s", "you")["event"] == "hello you"
    assert in_text("hello %s", "you").endswith(" hello you")


async def test_what_is_bound_is_of_one_task_and_of_those_that_it_starts() -> None:
    async def one(name: str) -> tuple[Any, Any]:
        bind(request_id=name)
        await asyncio.sleep(0)

        async def child() -> Any:
            bind(job_id="j")
            return in_json("x")

        return in_json(Line("x", request_id="its own")) if name == "own" else in_json("x"), await asyncio.create_task(
            child()
        )

    (first, child), (second, _), (own, _) = await asyncio.gather(one("a"), one("b"), one("own"))
    assert (first["request_id"], second["request_id"], own["request_id"]) == ("a", "b", "its own")
    assert (child["request_id"], child["job_id"]) == ("a", "j")
    assert "job_id" not in first
    assert "request_id" not in in_json("x")


@pytest.mark.parametrize("bad", ["a\nb", "a\r\nb", "\x1b[31m", "\x00", "\x85x", "\u2028", "\ud800"])
def test_no_value_makes_a_line_of_its_own_or_speaks_to_the_terminal(bad: str) -> None:
    for given in (Line("x", why=bad), f"x {bad}"):
        assert in_json(given)
        told = in_text(given)
        lines = told.splitlines()
        assert all(line.startswith("    ") for line in lines[1:]), "a forged record"
        assert not set(told) & set("\r\x1b\x00\x85\u2028")
    assert in_json(Line("x", why=bad))["why"] == bad


def test_a_traceback_is_part_of_its_record() -> None:
    assert in_json("x", error=raised("2026-11-25T20:43:15.123Z INFO forged\nline"))["exc_info"].endswith(
        "forged\nline"
    )
    first, *more = in_text("x", error=raised("\n2026-11-25T20:43:15.123Z INFO forged")).splitlines()
    assert first.endswith(" x")
    assert more
    assert all(line.startswith("    ") for line in more)


def test_passwords_are_hidden_wherever_they_stand() -> None:
    for text in (
        json.dumps(in_json(Line("x", url=f"redis://:{PASSWORD}@h"), error=raised(f"no: {PASSWORD}"))),
        json.dumps(in_json("at %s", PASSWORD)),
        in_text(Line("y", url="u"), error=raised(f"no: {PASSWORD}")),
        in_text("at %s", PASSWORD),
    ):
        assert PASSWORD not in text
        assert json.dumps(PASSWORD)[1:-1] not in text
        assert "***" in text


def test_a_secret_too_short_to_hide_leaves_the_text_readable() -> None:
    assert json.loads(Json(["a"]).format(record("a man")))["event"] == "a man"
