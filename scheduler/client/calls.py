"""Every call of the API: its route, its body, what it answers and whether it may be sent twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from scheduler.client.newjob import NewJob
from scheduler.client.refusals import Failed, error_of
from scheduler.domain.answers import (
    BatchAnswer,
    BatchOutcome,
    ExplainAnswer,
    JobAnswer,
    NodesAnswer,
    OutcomeAnswer,
    PlacementAnswer,
    PoolAnswer,
    PoolsAnswer,
    StartAnswer,
)
from scheduler.domain.job import Outcome
from scheduler.domain.pool import Pool
from scheduler.domain.views import JobView, PoolView
from scheduler.errors import FleetError

T = TypeVar("T")
NODES_PAGE = 200
EVENTS = "/v1/events"
# How many calls there are at once is for the caller to bound: a long poll must not keep a placement from its turn.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100)
BATCH_S = 3.0
_HEADERS = {"accept": "application/json", "content-type": "application/json"}


def headers(tenant: str | None, api_key: str | None) -> dict[str, str]:
    """What every request carries; without a tenant it is the key's, or `default`."""
    told = dict(_HEADERS)
    if tenant is not None:
        told["x-fleet-tenant"] = tenant
    if api_key is not None:
        told["authorization"] = f"Bearer {api_key.strip()}"
    return told


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `repeatable`: sent twice it does what it does once, whether or not the first was heard.

    A patient one is sent again when a refusal says that a slot may come free. `holds_s`: the replica may take its
    time, because it was asked to.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    repeatable: bool = True
    patient: bool = False
    holds_s: float = 0.0


def _as(kind: type[T]) -> Callable[[bytes], T]:
    def read(content: bytes) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise Failed(f"an answer that cannot be read: {error}") from error

    return read


def _id(text: str) -> str:
    return quote(text, safe=":")


def place(job: NewJob, *, patient: bool) -> Call[PlacementAnswer]:
    return Call("POST", "/v1/jobs", _as(PlacementAnswer), msgspec.json.encode(job.with_id()), patient=patient)


def _outcome(told: BatchOutcome) -> PlacementAnswer | FleetError:
    if isinstance(told.problem, dict):
        return error_of(told.status, told.problem)
    if isinstance(told.job, msgspec.UnsetType):
        return Failed(f"{told.status}: neither a job nor a problem")
    return PlacementAnswer(told.job, told.placement)


def place_batch(jobs: Sequence[NewJob]) -> Call[list[PlacementAnswer | FleetError]]:
    def read(content: bytes) -> list[PlacementAnswer | FleetError]:
        return [_outcome(told) for told in _as(BatchAnswer)(content).jobs]

    body = msgspec.json.encode({"jobs": [job.with_id() for job in jobs]})
    return Call("POST", "/v1/jobs:batch", read, body, holds_s=BATCH_S)


def job(id_: str, wait_ms: int = 0) -> Call[JobView]:
    query = {"wait_ms": wait_ms} if wait_ms else {}
    return Call(
        "GET",
        f"/v1/jobs/{_id(id_)}",
        lambda content: _as(JobAnswer)(content).job,
        query=query,
        holds_s=wait_ms / 1000,
    )


def start(id_: str, fence: int) -> Call[StartAnswer]:
    return Call("POST", f"/v1/jobs/{_id(id_)}/start", _as(StartAnswer), msgspec.json.encode({"fence": fence}))


def finish(id_: str, fence: int, outcome: Outcome, result: str) -> Call[str]:
    body = msgspec.json.encode({"fence": fence, "outcome": outcome, "result": result})
    return Call("POST", f"/v1/jobs/{_id(id_)}/finish", _word, body)


def _word(content: bytes) -> str:
    return _as(OutcomeAnswer)(content).outcome


def cancel(id_: str) -> Call[str]:
    return Call("POST", f"/v1/jobs/{_id(id_)}/cancel", _word)


def explain(wanted: NewJob) -> Call[ExplainAnswer]:
    return Call("POST", "/v1/explain", _as(ExplainAnswer), msgspec.json.encode(wanted))


def nodes(after: str) -> Call[NodesAnswer]:
    query = {"limit": NODES_PAGE} | ({"after": after} if after else {})
    return Call("GET", "/v1/nodes", _as(NodesAnswer), query=query)


def pools() -> Call[list[PoolView]]:
    return Call("GET", "/v1/pools", lambda content: _as(PoolsAnswer)(content).pools)


def _pool(content: bytes) -> PoolView:
    return _as(PoolAnswer)(content).pool


def pool(name: str) -> Call[PoolView]:
    return Call("GET", f"/v1/pools/{_id(name)}", _pool)


def put_pool(name: str, wanted: Pool) -> Call[PoolView]:
    # only automatic pools have languages, and a `d` is left out rather than null; no tenants are not the same as all
    told = {key: value for key, value in msgspec.to_builtins(wanted).items() if key not in {"d", "languages"}}
    if wanted.d is not None:
        told["d"] = wanted.d
    if wanted.languages:
        told["languages"] = wanted.languages
    return Call("PUT", f"/v1/pools/{_id(name)}", _pool, msgspec.json.encode(told))


def delete_pool(name: str) -> Call[None]:
    # not sent twice: the second could take out what somebody has put there in between
    return Call("DELETE", f"/v1/pools/{_id(name)}", lambda _: None, repeatable=False)
