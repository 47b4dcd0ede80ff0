"""What goes over the wire between our Python and our Lua: claims out, answers and mirror pages in."""

from typing import Any, Literal

import msgpack
import msgspec

from scheduler.domain.ids import Fence, JobId, NodeId, PoolName
from scheduler.domain.job import ACK_MS, MAX_ATTEMPTS, PRIORITY, TIMEOUT_MS, JobRequest, JobState, Placement
from scheduler.domain.reason import RefusalClass
from scheduler.errors import ServerUnavailable


class Shortlist(msgspec.Struct, frozen=True, gc=False):
    """What a replica proposes for one claim: nodes with the structure and pool rank its snapshot knew."""

    nodes: list[NodeId]
    structures: list[str]
    ranks: list[int]
    config_version: int
    structure_version: int
    offered: bool = True
    look: bool = True
    last: bool = False


class Placed(msgspec.Struct, frozen=True, gc=False):
    """The job has a slot. `looked` is set where the whole shortlist was stale; `used` corrects the snapshot.

    `load` is what the chosen node had used of its slots before, from 0 to 1.
    """

    placement: Placement
    looked: bool
    used: list[int]
    load: float = 0.0


class Exists(msgspec.Struct, frozen=True, gc=False):
    """The same id and content was claimed before; node is None while it has none."""

    placement: Placement


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Redis looked completely. `refusal` is None where the class is for the snapshot to say."""

    refusal: RefusalClass | None
    used: list[int]
    epoch: str = ""


class Again(msgspec.Struct, frozen=True, gc=False):
    """The look was not complete: go on within the deadline."""

    why: str
    used: list[int]


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """The job has no slot yet: it is pending, and is served as soon as a node can take it."""

    job: JobId
    used: list[int]


class Crowded(msgspec.Struct, frozen=True, gc=False):
    """It would have waited, but too many do; `limit` says what (demands, jobs, tenant, or the quota waiting_jobs)."""

    limit: str
    used: list[int]


class Held(msgspec.Struct, frozen=True, gc=False):
    """A slot is held under the request's token, for a job that is to be moved here."""

    used: list[int]


class Moved(msgspec.Struct, frozen=True, gc=False):
    """The job is in another shard, or was to be: under this token that shard held a slot for it."""

    tag: str
    hold: str


# lapsed: nothing is held under the token any more, and nothing ever will be
Answer = Placed | Exists | Refused | Again | Waiting | Crowded | Held | Moved | Literal["differs", "denied", "lapsed"]


# one for all: each has a buffer of its own, which is dear to make
_PACKER = msgpack.Packer(use_bin_type=False)


def pack_claim(request: JobRequest, shortlist: Shortlist) -> bytes:
    """One claim as job_claim reads it; what has its default is left out."""
    demand = request.demand
    claim: dict[str, object] = {
        "id": request.id,
        "tenant": demand.tenant,
        "demand": demand.text,
        "nodes": shortlist.nodes,
        "structures": shortlist.structures,
        "ranks": shortlist.ranks,
        "config_version": str(shortlist.config_version),
        "structure_version": str(shortlist.structure_version),
    }
    if request.digest != "-":
        claim["digest"] = request.digest
    if demand.pool:
        claim["pool"] = demand.pool
    if not demand.fallback:
        claim["fallback"] = False
    if demand.languages:
        claim["languages"] = " ".join(demand.languages)
    if request.exclude:
        claim["exclude"] = " ".join(sorted(request.exclude))
    if not shortlist.offered:
        claim["offered"] = False
    if not shortlist.look:
        claim["look"], claim["last"] = False, shortlist.last
    if request.session is not None and request.affinity != "none":
        claim["session"], claim["affinity"] = request.session, request.affinity
    if request.payload is not None:
        claim["payload"] = request.payload
    if request.deliver != "inbox":
        claim["deliver"] = request.deliver
    if request.priority != PRIORITY:
        claim["priority"] = request.priority
    if request.ack_ms != ACK_MS:
        claim["ack_ms"] = request.ack_ms
    if request.timeout_ms != TIMEOUT_MS:
        claim["timeout_ms"] = request.timeout_ms
    if request.max_attempts != MAX_ATTEMPTS:
        claim["max_attempts"] = request.max_attempts
    if request.wait_ms:
        claim["wait_ms"] = request.wait_ms
    if request.retry_failed:
        claim["retry_failed"] = 1
    if request.traceparent:
        claim["traceparent"] = request.traceparent
    if request.hold:
        claim["hold"] = request.hold
        if request.hold_ms:
            claim["hold_ms"] = request.hold_ms
    if request.elsewhere:
        claim["elsewhere"] = True
    return _PACKER.pack(claim)


_TEXTS = ("digest", "tenant", "demand", "payload", "deliver", "session", "affinity", "exclude", "languages",
          "released_by", "traceparent", "created_at_ms")  # fmt: skip
_NUMBERS = ("ack_ms", "timeout_ms", "max_attempts", "retry_failed", "priority", "wait_ms", "releases", "attempt")


def pack_moved(job: JobId, record: bytes, hold: str) -> bytes:
    """The claim of a job that waits in another shard, by its record of job_move, for the slot that is held for it."""
    held: dict[str, str] = msgpack.unpackb(record)
    claim: dict[str, object] = {"id": job, "hold": hold, "config_version": "0", "structure_version": "0"}
    claim |= {"nodes": [], "structures": [], "ranks": []}
    claim |= {name: held[name] for name in _TEXTS if name in held}
    claim |= {name: int(held[name]) for name in _NUMBERS if name in held}
    if "fence" in held:
        claim["last_fence"] = held["fence"]
    if "asked_pool" in held:
        claim["pool"] = held["asked_pool"]
    if held.get("fallback") == "0":
        claim["fallback"] = False
    return _PACKER.pack(claim)


def _placement(job: JobId, state: JobState, fields: list[Any]) -> Placement:
    node, endpoint, pool, fence, attempt, expires = fields
    return Placement(
        job, state, NodeId(node), endpoint, PoolName(pool), Fence(int(fence)), int(attempt), int(expires)
    )


def read_answers(packed: bytes) -> list[list[Any]]:
    answers: list[list[Any]] = msgpack.unpackb(packed)
    return answers


def read_answer(job: JobId, raw: list[Any]) -> Answer:
    """One answer of job_claim; an unknown word is a newer library's, and no answer we can use."""
    match raw[0]:
        case "placed":
            return Placed(_placement(job, JobState.CLAIMED, raw[2:8]), bool(raw[8]), raw[9], raw[10] / raw[11])
        case "exists":
            return Exists(_placement(job, JobState(raw[1]), raw[2:8]))
        case "refused":
            return Refused(None if raw[1] == "unknown" else RefusalClass(raw[1]), raw[2], raw[3])
        case "waiting":
            return Waiting(JobId(raw[1]), raw[2])
        case "crowded":
            return Crowded(raw[1], raw[2])
        case "again":
            return Again(raw[1], raw[2])
        case "held":
            return Held(raw[1])
        case "moved":
            return Moved(raw[1], raw[2])
        case "lapsed":
            return "lapsed"
        case "differs":
            return "differs"
        case "denied":
            return "denied"
        case word:
            raise ServerUnavailable(f"job_claim answered {word!r}")


class Truths(msgspec.Struct, frozen=True, gc=False):
    """One shard in numbers; `reaped_*` are all that there ever were.

    `oldest_ms` is how long the job that has waited longest waits. `paused` is 1 while so many nodes lapsed at once
    that none of them is reaped.
    """

    revision: int
    leases: int
    waiting_jobs: int
    waiting_demands: int
    oldest_ms: int
    paused: int
    reaped_nodes: int
    reaped_leases: int
    reaped_jobs: int


class MirrorPage(msgspec.Struct, frozen=True, gc=False):
    """One page of mirror_read. Each node: id, version, state, slots, used, over, quarantined[, structure list].

    `waiting` counts the queues; `config_source` is the version of the first shard's pools that these are a copy of.
    `tenants` are None where the caller holds them; `tenants_source` is to them what config_source is to the pools.
    """

    epoch: str
    floor: int
    version: int
    structure_version: int
    config_version: int
    now_ms: int
    nodes: list[list[Any]]
    pools: dict[str, str] | None
    history: str
    waiting: int
    config_source: int
    tenants_version: int
    tenants: dict[str, str] | None
    tenants_source: int
    truths: Truths | None = None


def read_mirror(
    held: int,
    raw: bytes,
    waiting: int,
    config_source: int,
    tenants_version: int,
    tenants: list[bytes],
    tenants_source: int,
    truths: bytes | None = None,
) -> MirrorPage:
    epoch, floor, version, structure, config, now_ms, nodes, pools, history = msgpack.unpackb(raw)
    # an empty Lua table is packed as a list; a map never is
    named = None if pools is False else dict(zip(pools[::2], pools[1::2], strict=True))
    texts = [text.decode() for text in tenants]
    rows = None if tenants_version == held else dict(zip(texts[::2], texts[1::2], strict=True))
    return MirrorPage(
        epoch, int(floor), int(version), int(structure), int(config), int(now_ms), list(nodes), named, history,
        waiting, config_source, tenants_version, rows, tenants_source,
        msgspec.msgpack.decode(truths, type=Truths) if truths else None,
    )  # fmt: skip
