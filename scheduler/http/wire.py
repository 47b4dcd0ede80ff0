"""The shapes of bodies, with their limits; OpenAPI is made from these."""

import hashlib
import secrets
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from scheduler.domain.demand import TOKENS_MAX, Demand, demand_from
from scheduler.domain.ids import (
    ID_PATTERN,
    JOB_ID_PATTERN,
    SESSION_PATTERN,
    TOKEN_PATTERN,
    JobId,
    NodeId,
    PoolName,
    Tenant,
    Token,
)
from scheduler.domain.job import ACK_MS, MAX_ATTEMPTS, PRIORITY, TIMEOUT_MS, JobRequest
from scheduler.domain.required import SERVICE_NAMES
from scheduler.domain.services import OFFER_MAX, SERVICES_MAX, Code, Service, offered
from scheduler.http.payload import payload_text

Id = Annotated[str, Meta(pattern=ID_PATTERN, max_length=64)]
SessionId = Annotated[str, Meta(pattern=SESSION_PATTERN, max_length=128)]
TokenText = Annotated[str, Meta(pattern=TOKEN_PATTERN, max_length=128)]
Tokens = Annotated[list[TokenText], Meta(max_length=OFFER_MAX)]
Services = Annotated[list[Service], Meta(max_length=SERVICES_MAX)]
# The choice is for readers of the schema: `required` checks it, and names all of it.
ServiceName = Annotated[str, Meta(extra_json_schema={"enum": list(SERVICE_NAMES)})]
# Labels travel to Redis as key=value words: a space in one would make two of it.
LabelKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}\Z")]
LabelValue = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:/-]{0,128}\Z")]
Labels = Annotated[dict[LabelKey, LabelValue], Meta(max_length=64)]
Endpoint = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]{0,511}\Z", max_length=512)]
Percent = Annotated[float, Meta(ge=0, le=100)]
FenceNumber = Annotated[int, Meta(ge=1, le=2**53)]
TenantOrAll = Annotated[str, Meta(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})\Z", max_length=64)]
Distinct = Meta(extra_json_schema={"uniqueItems": True})
DurationMs = Annotated[int, Meta(ge=1, le=86_400_000)]


class JobBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job to place, or to explain: `requires` or `services` must be given, and both must be met.

    `requires` names capabilities; `services` are in the languages `src`, which may be auto, and `tgt`.
    """

    requires: Annotated[list[TokenText], Meta(min_length=1, max_length=TOKENS_MAX)] | None = None
    services: Annotated[list[ServiceName], Meta(min_length=1, max_length=SERVICES_MAX)] | None = None
    src: Code | None = None
    tgt: Code | None = None
    pool: Id | None = None
    fallback: bool = True
    exclude: Annotated[list[Id], Meta(max_length=64)] = []
    session: SessionId | None = None
    affinity: Literal["none", "sticky", "spread"] = "none"
    id: Id | None = None
    payload: Raw | UnsetType = UNSET
    deliver: Literal["inbox", "direct"] = "inbox"
    priority: Annotated[int, Meta(ge=0, le=9)] = PRIORITY
    ack_ms: DurationMs = ACK_MS
    timeout_ms: DurationMs = TIMEOUT_MS
    wait_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = MAX_ATTEMPTS
    retry_failed: bool = False


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 1,000 jobs, each with an outcome of its own."""

    jobs: Annotated[list[Raw], Meta(min_length=1, max_length=1_000)]


class StartBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The node begins the attempt of this fence."""

    fence: FenceNumber


class FinishBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of an attempt; `result` is text of at most 262,144 bytes."""

    fence: FenceNumber
    outcome: Literal["succeeded", "failed", "released"]
    result: Annotated[str, Meta(max_length=262_144)] = ""


class RegisterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node that cannot reach Redis registers here; it offers its capabilities and the tokens of its services."""

    endpoint: Endpoint
    slots: Annotated[int, Meta(ge=1, le=1_000_000)]
    capabilities: Tokens | None = None
    services: Services | None = None
    labels: Labels | None = None
    cpu: Percent | None = None
    gpu: Percent | None = None
    mem: Percent | None = None
    cpu_max: Percent | None = None
    gpu_max: Percent | None = None
    mem_max: Percent | None = None
    ttl_ms: Annotated[int, Meta(ge=100, le=3_600_000)] | None = None


class RunningJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An attempt that runs on the node."""

    job: Annotated[str, Meta(pattern=JOB_ID_PATTERN, max_length=129)]
    fence: FenceNumber


class HeartbeatBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node lives; only what it reports changes. `capabilities` or `services` replace all that it offered before."""

    incarnation: FenceNumber
    cpu: Percent | None = None
    gpu: Percent | None = None
    mem: Percent | None = None
    slots: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    capabilities: Tokens | None = None
    services: Services | None = None
    labels: Labels | None = None
    running: Annotated[list[RunningJob], Meta(max_length=1_000)] | None = None


class DrainBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long running jobs may go on."""

    drain_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 30_000


class SelectorBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of these capabilities and labels; or `all`, alone."""

    capabilities: Annotated[list[TokenText], Distinct, Meta(max_length=64)] = []
    labels: Labels = {}
    all: bool = False


class PoolBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool, for readers of the document; the function that stores it is what judges it."""

    selector: SelectorBody
    tenants: Annotated[tuple[TenantOrAll, ...], Distinct, Meta(min_length=1, max_length=100)] = ("*",)
    fallback: Annotated[list[Id], Distinct, Meta(max_length=16)] = []
    strategy: Literal["spread", "pack"] = "spread"
    priority: Annotated[int, Meta(ge=-1_000, le=1_000)] = 0
    d: Annotated[int, Meta(ge=1, le=16)] | UnsetType = UNSET


class QuotaBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tenant may have at most, for readers of the document; what is left out has no limit but the fleet's.

    `concurrent_jobs` are slots that it occupies, `waiting_jobs` jobs that wait, `requests_per_s` requests to all
    replicas together, of which a batch makes as many as it has jobs, and `payload_bytes` those of one job as JSON.
    """

    concurrent_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    waiting_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    requests_per_s: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    payload_bytes: Annotated[int, Meta(ge=0, le=262_144)] | UnsetType = UNSET


def reported(body: RegisterBody | HeartbeatBody, *names: str) -> dict[str, object]:
    """The optional fields that are given, as the functions take them."""
    fields: dict[str, object] = {}
    for name in names:
        value = getattr(body, name)
        if value is None:
            continue
        if name == "labels":
            value = " ".join(f"{key}={text}" for key, text in value.items())
        elif name == "running":
            value = " ".join(f"{item.job} {item.fence}" for item in value)
        elif isinstance(value, float):
            value = f"{value:.3f}"
        fields[name] = value
    return fields


def offered_in(body: RegisterBody | HeartbeatBody) -> tuple[Token, ...]:
    """All the tokens that the body offers; at least one."""
    return offered(body.capabilities or (), body.services or ())


@lru_cache(1024)
def _demand(
    tenant: Tenant,
    requires: tuple[str, ...],
    services: tuple[str, ...],
    src: str | None,
    tgt: str | None,
    pool: PoolName | None,
    *,
    fallback: bool,
) -> Demand:
    return demand_from(tenant, requires=requires, services=services, src=src, tgt=tgt, pool=pool, fallback=fallback)


def demand_in(body: JobBody, tenant: Tenant) -> Demand:
    """The body's demand; few are asked for again and again, so each is made once."""
    pool = None if body.pool is None else PoolName(body.pool)
    asked = (tuple(body.requires or ()), tuple(body.services or ()), body.src, body.tgt, pool)
    return _demand(tenant, *asked, fallback=body.fallback)


def _digest(body: JobBody, demand: Demand, payload: str | None) -> str:
    """The same for the same request, however it was spelled: order and aliases of names, white space, format."""
    told = msgspec.structs.replace(
        body, requires=None, services=None, src=None, tgt=None, exclude=sorted(set(body.exclude)), payload=UNSET
    )
    value = None if payload is None else msgspec.json.format(payload, indent=-1)
    return hashlib.blake2b(
        msgspec.json.encode((told, demand.text, demand.languages, value)), digest_size=16
    ).hexdigest()


def job_request(body: JobBody, tenant: Tenant, *, packed: bool, traceparent: str = "") -> JobRequest:
    """The request behind a body; an id of the client's is stored as `<tenant>:<id>`, else one is made here.

    The trace is no part of what makes two requests the same.
    """
    demand = demand_in(body, tenant)
    payload = None if isinstance(body.payload, UnsetType) else payload_text(body.payload, packed=packed)
    if body.id is None:
        job, digest = JobId(f"0.{secrets.token_hex(16)}"), "-"
    else:
        job, digest = JobId(f"{tenant}:{body.id}"), _digest(body, demand, payload)
    return JobRequest(
        id=job,
        digest=digest,
        demand=demand,
        session=body.session,
        affinity=body.affinity,
        exclude=frozenset(map(NodeId, body.exclude)),
        payload=payload,
        deliver=body.deliver,
        priority=body.priority,
        ack_ms=body.ack_ms,
        timeout_ms=body.timeout_ms,
        wait_ms=body.wait_ms,
        max_attempts=body.max_attempts,
        retry_failed=body.retry_failed,
        traceparent=traceparent,
    )
