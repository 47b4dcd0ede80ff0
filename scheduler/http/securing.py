"""What OpenAPI says of keys: how one is sent, and which roles each route takes."""

from typing import Any

from scheduler.http.routes import Operation

SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "fleet_<id>_<secret>",
        "description": "An API key of `fleet apikeys create`. On the loopback none is needed until there is one.",
    }
}


def security(operation: Operation) -> dict[str, Any]:
    """Who may; `x-whole`: only by a key for every tenant."""
    if operation.roles is None:
        return {"security": []}
    told: dict[str, Any] = {"security": [{"apiKey": []}], "x-roles": sorted(operation.roles)}
    return told | {"x-whole": True} if operation.whole else told


def refusals(operation: Operation) -> frozenset[int]:
    """The statuses of those who may not."""
    return frozenset() if operation.roles is None else frozenset({401, 403})
