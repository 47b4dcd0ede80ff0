"""OpenAPI 3.1, made from the list of routes and the wire shapes so that it cannot drift."""

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from scheduler import __version__
from scheduler.http.examples import example_of
from scheduler.http.parameters import parameters_of
from scheduler.http.problems import PROBLEMS
from scheduler.http.routes import OPERATIONS, Operation
from scheduler.http.securing import SCHEMES, refusals, security
from scheduler.http.words import word_of

_REFERENCE = "#/components/schemas/{name}"
_DESCRIPTION = """\
Places every request, now, on a live node of an unlike fleet. Bodies and answers are JSON, or msgpack where the
headers Content-Type and Accept say so; every problem is a document of RFC 9457."""
_RETRY_AFTER = {
    "description": "whole seconds after which another try may help",
    "schema": {"type": "integer", "minimum": 1},
    "example": 1,
}
_LOCATION = {
    "description": "where the job is found",
    "schema": {"type": "string", "pattern": "^/v1/jobs/"},
    "example": "/v1/jobs/default:job-1",
}
_STATUSES = {
    200: "Done",
    201: "Made",
    400: "The body is broken",
    401: "No key, or none that is good",
    403: "Not allowed to this tenant, or to a key of this role",
    404: "Not known, or not this tenant's",
    409: "Not as things stand now",
    413: "The body is over the limit",
    415: "The body is of another type than JSON and msgpack",
    422: "A value is not acceptable, or no node could ever do it",
    429: "The tenant has all that it may have",
    503: "Not now: ask again after the time of Retry-After",
}
# What the words of the table do not say of one route.
_TOLD = {
    ("post_job", 200): "The same id and body had been placed before",
    ("post_job", 201): "Placed",
    ("post_job", 202): "Waiting for a slot: the state of the job is pending",
    ("put_node", 201): "Registered; the node is ready at once",
}
# What an answer gives to the calls that follow: the name of the answer's part, the parameters, the body's fields.
_JOB, _NODE = "$response.body#/job", "$request.path.node"
_LINKS: dict[tuple[str, int], dict[str, tuple[dict[str, str], dict[str, str]]]] = {
    ("post_job", 201): {
        "get_job": ({"job": f"{_JOB}/id"}, {}),
        "start_job": ({"job": f"{_JOB}/id"}, {"fence": f"{_JOB}/fence"}),
        "finish_job": ({"job": f"{_JOB}/id"}, {"fence": f"{_JOB}/fence", "outcome": "succeeded"}),
        "cancel_job": ({"job": f"{_JOB}/id"}, {}),
    },
    ("put_node", 201): {
        "get_node": ({"node": _NODE}, {}),
        "post_heartbeat": ({"node": _NODE}, {"incarnation": "$response.body#/incarnation"}),
        "delete_node": ({"node": _NODE}, {}),
    },
    ("put_pool", 200): {
        "get_pool": ({"pool": "$request.path.pool"}, {}),
        "delete_pool": ({"pool": "$request.path.pool"}, {}),
    },
}  # fmt: skip
# What a shape demands beyond its fields.
_RULES: dict[str, dict[str, Any]] = {
    "JobBody": {
        "anyOf": [
            {"required": [name], "properties": {name: {"type": "array"}}}
            for name in ("requires", "services")
        ]
    }
}  # fmt: skip
_KINDS = sorted({problem.type for problem in PROBLEMS})
_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong, where, and whether another try may help.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "enum": _KINDS},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "field": {"type": "string"},
        "class": {"enum": ["impossible", "unavailable", "overloaded", "quota"]},
        "reasons": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        "snapshot_age_ms": {"type": "integer", "minimum": 0},
        "quota": {"enum": ["concurrent_jobs", "waiting_jobs", "requests_per_s", "payload_bytes"]},
        "limit": {"type": ["integer", "string"]},
        "request_id": {"type": "string"},
    },
}
Schemas = dict[str, dict[str, Any]]


def _statuses(operation: Operation) -> list[int]:
    """Those of the operation, with those that follow from what it takes and whom it asks."""
    asked = {422} if parameters_of(operation) or operation.body is not None else set()
    # a tenant's requests may be limited wherever it has any
    limited = {429} if operation.path.startswith("/v1/") else set()
    # the process lives: that is all that healthz says
    away = set() if operation.path == "/healthz" else {503}
    return sorted({*operation.statuses, *refusals(operation), *asked, *limited, *away})


def _links(operation: Operation, status: int) -> dict[str, Any]:
    return {
        name: {"operationId": name, "parameters": parameters} | ({"requestBody": body} if body else {})
        for name, (parameters, body) in _LINKS.get((operation.name, status), {}).items()
    }


def _problem(operation: Operation, status: int) -> dict[str, Any]:
    kinds = [kind for kind in PROBLEMS if status in kind.statuses]
    about = re.findall(r"{(\w+)}", operation.path)
    kind = next((kind for kind in kinds if kind.title.removeprefix("Unknown ") in about), kinds[0])
    return {"type": kind.type, "title": kind.title, "status": status, "detail": kind.meaning}


def _response(operation: Operation, status: int, good: dict[str, Any]) -> dict[str, Any]:
    said = _TOLD.get((operation.name, status)) or _STATUSES.get(status) or HTTPStatus(status).phrase
    told: dict[str, Any] = {"description": said}
    if status < 400:
        headers = {"Location": _LOCATION} if operation.name == "post_job" and status != 200 else {}
        links = _links(operation, status)
        return (
            told | {"content": good} | ({"headers": headers} if headers else {}) | ({"links": links} if links else {})
        )
    problem = {"schema": {"$ref": _REFERENCE.format(name="Problem")}, "example": _problem(operation, status)}
    told["content"] = {"application/problem+json": problem, "application/problem+msgpack": problem}
    if status in {429, 503}:
        told["headers"] = {"Retry-After": {"required": status == 503, **_RETRY_AFTER}}
    return told


def _both(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    told = {"schema": schema, "example": example}
    return {"application/json": told, "application/msgpack": told}


def _described(schemas: Schemas) -> Schemas:
    """Each property with its meaning; a description of the shape itself wins."""
    for name, schema in schemas.items():
        for field, shape in schema.get("properties", {}).items():
            if "description" not in shape and (word := word_of(name, field)):
                shape["description"] = word.meaning
        schema.update(_RULES.get(name, {}))
    return schemas


def _schemas() -> tuple[dict[type, dict[str, Any]], Schemas]:
    shapes = {shape for o in OPERATIONS for shape in (o.body, o.answer) if isinstance(shape, type)}
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    return dict(zip(ordered, schemas, strict=True)), _described({**components, "Problem": _PROBLEM})


def _operation(operation: Operation, references: dict[type, dict[str, Any]], schemas: Schemas) -> dict[str, Any]:
    given = operation.answer
    if isinstance(given, str):
        good: dict[str, Any] = {given: {"schema": {"type": "string"}}}
    else:
        good = _both(references[given], example_of(references[given], schemas))
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters_of(operation),
        "responses": {str(s): _response(operation, s, good) for s in _statuses(operation)},
        **security(operation),
    }
    if operation.body is not None:
        body = references[operation.body]
        content = _both(body, example_of(body, schemas))
        told["requestBody"] = {
            "description": (operation.body.__doc__ or "").strip().partition("\n")[0],
            "required": operation.body_required,
            "content": content,
        }
    return told


@cache
def document() -> dict[str, Any]:
    references, schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, references, schemas)
    paths["/openapi.json"] = {
        "get": {
            "operationId": "openapi",
            "summary": "This document",
            "parameters": [],
            "responses": {
                "200": {"description": "Done", "content": {"application/json": {"schema": {"type": "object"}}}}
            },
        }
    }
    told = {
        "openapi": "3.1.0",
        "info": {"title": "fleet scheduler", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SCHEMES},
    }
    # \Z is Python's; in JSON Schema, whose patterns know no line ends, $ says the same
    spelled: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(told).replace(rb"\\Z", b"$"))
    return spelled
