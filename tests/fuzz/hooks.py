"""What schemathesis must be told of this API: msgpack, and which values lead a sound request to something."""

from typing import Any

import msgspec
import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

# Longer polls would be right, and slow.
WAIT_MAX_MS = 20


@schemathesis.serializer("application/msgpack")
def packed(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else msgspec.msgpack.encode(_short(value))


@schemathesis.deserializer("application/msgpack", "application/problem+msgpack")
def unpacked(_: Any, response: Any) -> Any:
    return msgspec.msgpack.decode(response.content)


def _whole(value: Any) -> Any:
    """JSON Schema calls 5.0 an integer; the API reads it as what it is written as, and no program writes it so."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _whole(inner) for key, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
        case _:
            return value


def _short(value: Any) -> Any:
    """Whole numbers that msgpack does not have become those that it has; both are as wrong or as right."""
    match value:
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            return float(value)
        case dict():
            return {key: _short(inner) for key, inner in value.items()}
        case list():
            return [_short(inner) for inner in value]
        case _:
            return value


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001 - the hook's signature
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    case.body = _whole(case.body)
    if (query := case.query) and "wait_ms" in query:
        query["wait_ms"] = min(int(query["wait_ms"]), WAIT_MAX_MS)
    if case.meta.phase.name is TestPhase.STATEFUL and case.headers:
        # what one call makes, the next must be allowed to see
        case.headers.pop("X-Fleet-Tenant", None)
    name = case.operation.definition.raw["operationId"]
    if name == "post_job" and isinstance(case.body, dict):
        # every other job is one that the fleet can do, so that there is something to start and to finish
        case.body = case.body | {"wait_ms": 0}
        if len(str(case.body)) % 2:
            chosen = {"requires": ["gpu"], "services": None, "pool": None, "exclude": []}
            case.body = case.body | chosen


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:  # noqa: ARG001
    """An optional body that is left out is no wrong body, though it may be called one."""
    meta = case.meta
    return (
        meta is None
        or meta.generation.mode is GenerationMode.POSITIVE
        or any(part.mode is GenerationMode.NEGATIVE for part in meta.components.values())
    )
