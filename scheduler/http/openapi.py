"""OpenAPI 3.1, made from the list of routes and the wire shapes so that it cannot drift."""

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from scheduler import __version__
from scheduler.domain.answers import NodeAnswer, NodesAnswer
from scheduler.http.routes import OPERATIONS, Operation
from scheduler.http.securing import SCHEMES, refusals, security

_NUMBERS = {"limit", "wait_ms"}
_REFERENCE = "#/components/schemas/{name}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "field": {"type": "string"},
        "class": {"enum": ["impossible", "unavailable", "overloaded", "quota"]},
        "reasons": {"type": "object", "additionalProperties": {"type": "integer"}},
        "snapshot_age_ms": {"type": "integer"},
        "request_id": {"type": "string"},
        "quota": {"enum": ["concurrent_jobs", "waiting_jobs", "requests_per_s", "payload_bytes"]},
        "limit": {"type": ["integer", "string"]},
    },
}


def _response(status: int, good: dict[str, Any]) -> dict[str, Any]:
    problem = {"schema": {"$ref": _REFERENCE.format(name="Problem")}}
    bad = {"application/problem+json": problem, "application/problem+msgpack": problem}
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase, "content": bad if status >= 400 else good}
    return told


def _both(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}, "application/msgpack": {"schema": schema}}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    in_query = [
        {"name": name, "in": "query", "schema": {"type": "integer" if name in _NUMBERS else "string"}}
        for name in operation.query
    ]
    tenant = {"name": "X-Fleet-Tenant", "in": "header", "schema": {"type": "string", "default": "default"}}
    asks_tenant = operation.path.startswith(("/v1/jobs", "/v1/explain", "/v1/events")) or operation.answer in {
        NodesAnswer,
        NodeAnswer,
    }
    return [*in_path, *in_query, *([tenant] if asks_tenant else [])]


def _statuses(operation: Operation) -> set[int]:
    """What it says, and what every operation may answer; a tenant's requests may be limited wherever it has any."""
    limited = {429} if operation.path.startswith("/v1/") else set()
    return {*operation.statuses, *refusals(operation), *limited, 422, 503}


@cache
def document() -> dict[str, Any]:
    shapes = {shape for o in OPERATIONS for shape in (o.body, o.answer) if isinstance(shape, type)}
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    references = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        given = operation.answer
        good = {given: {}} if isinstance(given, str) else _both(references[given])
        told: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "parameters": _parameters(operation),
            "responses": {str(s): _response(s, good) for s in sorted(_statuses(operation))},
            **security(operation),
        }
        if operation.body is not None:
            content = _both(references[operation.body])
            told["requestBody"] = {"required": operation.body_required, "content": content}
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    # \Z is Python's; in JSON Schema, whose patterns know no line ends, $ says the same
    spelled = msgspec.json.decode(msgspec.json.encode(components).replace(rb"\\Z", b"$"))
    return {
        "openapi": "3.1.0",
        "info": {"title": "fleet scheduler", "version": __version__},
        "paths": paths,
        "components": {"schemas": {**spelled, "Problem": _PROBLEM}, "securitySchemes": SCHEMES},
    }
