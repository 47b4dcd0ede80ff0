"""A job's payload: any JSON value in the body, JSON text in Redis."""

import math

import msgspec
from msgspec import Raw

from scheduler.domain.job import PAYLOAD_MAX_BYTES
from scheduler.errors import BadInput


def payload_text(raw: Raw, *, packed: bool) -> str:
    """The payload as JSON text; BadInput where JSON cannot hold it as it is, or the text is over the limit."""
    data = bytes(raw)
    # msgpack can be longer than JSON, but each byte can be a list: to look into more would hold up everybody else
    if packed and len(data) <= 2 * PAYLOAD_MAX_BYTES:
        data = json_of(data, "payload")
    if len(data) > PAYLOAD_MAX_BYTES:
        raise BadInput("payload", f"must be at most {PAYLOAD_MAX_BYTES} bytes as JSON")
    try:
        # the decoder passes raw values by without looking into their strings
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("payload", f"must be UTF-8: {error}") from error


def json_of(data: bytes, field: str) -> bytes:
    """Msgpack as JSON; BadInput on the field where JSON cannot hold it as it is."""
    try:
        value = msgspec.msgpack.decode(data)
        text = msgspec.json.encode(value)
        if msgspec.json.decode(text) != value:
            _check(value)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise BadInput(field, f"must be a value that JSON can hold: {error}") from error
    return text


def _check(value: object) -> None:
    """The encoder turns NaN into null, bytes into base64 and other keys into text: say which of these it is."""
    match value:
        case dict():
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"a key is {type(key).__name__}, not text")
                _check(inner)
        case list():
            for inner in value:
                _check(inner)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is not a number")
        case None | bool() | int() | str():
            return
        case _:
            raise TypeError(f"{type(value).__name__} is not a JSON type")
