"""What a program of ours writes on stderr: one line for each record, as text or as JSON.

Modules log `Line`s through the standard library, so that a program that embeds an agent has them in its own logs.
"""

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Literal

from pythonjsonlogger.core import LogData
from pythonjsonlogger.json import JsonFormatter

Format = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")
# Replacing a shorter one would leave nothing readable.
SECRET_LENGTH = 4
_HIDDEN = "***"
_PLAIN = re.compile(r"[A-Za-z0-9._:/{}+@-]+")
# All that could end a line, or speak to a terminal.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_UNBOUND: Mapping[str, object] = {}
_bound: ContextVar[Mapping[str, object]] = ContextVar("fleet_log_fields", default=_UNBOUND)


class Line(dict[str, object]):
    """What happened, as noun_verb, with its fields; JSON has them one by one, text as name=value."""

    def __init__(self, event: str, **fields: object) -> None:
        super().__init__(event=event, **fields)

    def __str__(self) -> str:
        return " ".join([str(self["event"]), *_words({name: self[name] for name in self if name != "event"})])


def _words(fields: Mapping[str, object]) -> list[str]:
    return [
        f"{name}={text if _PLAIN.fullmatch(text := str(value)) else json.dumps(text)}"
        for name, value in fields.items()
    ]


def bind(**fields: object) -> None:
    """Every record of this task, and of those that it starts from now on, has these fields too."""
    _bound.set({**_bound.get(), **fields})


class _Hiding:
    """Takes passwords out of values, before these are spelled in a format that might spell them in another way."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted({text for text in secrets if len(text) >= SECRET_LENGTH}, key=len, reverse=True)
        self._found = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, value: str) -> str:
        return value if self._found is None else self._found.sub(_HIDDEN, value)

    def value(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


class Json(JsonFormatter):
    """One JSON object a line. `event` is noun_verb for our own records and the message of all others."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
            timestamp="at",
        )
        self._hiding = _Hiding(secrets)

    def process_log_record(self, log_data: LogData) -> LogData:
        """The library puts these together; what is bound to the task is added, and its own fields win."""
        at = log_data.pop("at")
        told = {"at": at.isoformat(timespec="milliseconds"), **_bound.get(), **log_data}
        return {name: self._hiding.value(value) for name, value in told.items()}


class Text(logging.Formatter):
    """`2026-11-25T20:43:15.123Z WARNING redis_away node=n1 error="…"`; a record of more lines has them indented."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._hiding = _Hiding(secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        own: Mapping[str, Any] = record.msg if isinstance(record.msg, dict) else {}
        return " ".join(
            [super().formatMessage(record), *_words({k: v for k, v in _bound.get().items() if k not in own})]
        )

    def format(self, record: logging.LogRecord) -> str:
        text = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", self._hiding.text(super().format(record)))
        # what somebody else has put into a message cannot look like a record of its own
        return text.replace("\n", "\n    ")


def start_logging(form: Format, level: str, secrets: Iterable[str] = ()) -> None:
    """Write this program's records on stderr. Other people's below a warning are for `debug` alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json(secrets) if form == "json" else Text(secrets))
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        handlers=[handler], level=number if number == logging.DEBUG else max(number, logging.WARNING), force=True
    )
    logging.getLogger("fleet").setLevel(number)
    logging.captureWarnings(True)
