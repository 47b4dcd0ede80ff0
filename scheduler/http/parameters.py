"""What may stand in a path, a query or a header: the shapes that the endpoints enforce, for readers of the API."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from scheduler.domain.answers import NodeAnswer, NodesAnswer
from scheduler.domain.ids import ID_PATTERN, JOB_ID_PATTERN
from scheduler.http.jobs import WAIT_MAX_MS
from scheduler.http.routes import Operation
from scheduler.http.words import word_of

Id = Annotated[str, Meta(pattern=ID_PATTERN, max_length=64)]
StoredJobId = Annotated[str, Meta(pattern=JOB_ID_PATTERN, max_length=129)]
Cursor = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z", max_length=64)]
_ID = ID_PATTERN.removeprefix("^").removesuffix(r"\Z")
_ONE = r"[0-9]{1,19}(-[0-9]{1,19})?"
Position = Annotated[str, Meta(pattern=rf"^({_ONE}|[a-z0-9]+:{_ONE}(,[a-z0-9]+:{_ONE})*)\Z")]
Kinds = Annotated[str, Meta(pattern=r"^,*([a-z][a-z_]{0,63},*){0,32}\Z")]

# By name, or by operation and name where they differ. A path's other names are ids; another query is any text.
SHAPES: dict[str, Any] = {
    "job": StoredJobId,
    "before": Annotated[str, Meta(pattern=rf"^({_ONE})?\Z")],
    "tenant": Annotated[str, Meta(pattern=rf"^(\*|{_ID})\Z", max_length=64)],
    "after": Cursor,
    "get_events.after": Position,
    "get_events.node": Id,
    "kind": Kinds,
    "limit": Annotated[int, Meta(ge=1, le=1_000)],
    "get_nodes.limit": Annotated[int, Meta(ge=1, le=200)],
    "wait_ms": Annotated[int, Meta(ge=0, le=WAIT_MAX_MS)],
    "X-Fleet-Tenant": Annotated[Id, Meta(extra_json_schema={"default": "default"})],
    "Last-Event-ID": Position,
}  # fmt: skip


def _asks_tenant(operation: Operation) -> bool:
    return operation.path.startswith(("/v1/jobs", "/v1/explain", "/v1/events")) or operation.answer in {
        NodesAnswer,
        NodeAnswer,
    }


def _told(operation: Operation, name: str, place: str) -> dict[str, Any]:
    fallback = Id if place == "path" else str
    shape = SHAPES.get(f"{operation.name}.{name}", SHAPES.get(name, fallback))
    word = word_of(operation.name, name)
    told: dict[str, Any] = {"name": name, "in": place, "schema": msgspec.json.schema(shape)}
    if place == "path":
        told["required"] = True
    # a path's name without a word of its own is the id of such a thing
    described = word.meaning if word else f"the id of the {name}" if place == "path" else ""
    return told | {"description": described, "example": word.example if word else f"{name}-1"}


def parameters_of(operation: Operation) -> list[dict[str, Any]]:
    """As OpenAPI describes them, those of the path first."""
    headers = [
        *(["X-Fleet-Tenant"] if _asks_tenant(operation) else []),
        *(["Last-Event-ID"] if operation.answer == "text/event-stream" else []),
    ]
    return [
        *(_told(operation, name, "path") for name in re.findall(r"{(\w+)}", operation.path)),
        *(_told(operation, name, "query") for name in operation.query),
        *(_told(operation, name, "header") for name in headers),
    ]
