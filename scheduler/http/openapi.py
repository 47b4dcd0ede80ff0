"""OpenAPI 3.1, made from the list of routes and the wire shapes so that it cannot drift."""

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from scheduler import __version__
from scheduler.http.routes import OPERATIONS, Operation

_REFERENCE = "#/components/schemas/{name}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
        "class": {"enum": ["impossible", "unavailable", "overloaded"]},
        "reasons": {"type": "object", "additionalProperties": {"type": "integer"}},
        "snapshot_age_ms": {"type": "integer"},
    },
}


def _response(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if status >= 400:
        told["content"] = {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}}
    return told


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    in_query = [
        {"name": name, "in": "query", "schema": {"type": "string" if name == "after" else "integer"}}
        for name in operation.query
    ]
    tenant = {"name": "X-Fleet-Tenant", "in": "header", "schema": {"type": "string", "default": "default"}}
    return [*in_path, *in_query, *([tenant] if operation.path.startswith("/v1/jobs") else [])]


@cache
def document() -> dict[str, Any]:
    bodies = [operation.body for operation in OPERATIONS if operation.body is not None]
    schemas, components = msgspec.json.schema_components(bodies, ref_template=_REFERENCE)
    references = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        told: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "parameters": _parameters(operation),
            "responses": {str(s): _response(s) for s in sorted({*operation.statuses, 422, 503})},
        }
        if operation.body is not None:
            schema = {"schema": references[operation.body]}
            content = {"application/json": schema, "application/msgpack": schema}
            told["requestBody"] = {"required": True, "content": content}
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {"title": "fleet scheduler", "version": __version__},
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM}},
    }
