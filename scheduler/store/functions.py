"""The library's functions as typed calls, name for name; nothing else in the project calls FCALL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
from redis.exceptions import RedisError, ResponseError

from scheduler.domain.apikey import ApiKey, KeyId
from scheduler.domain.ids import Fence, JobId, NodeId, PoolName, Tenant
from scheduler.domain.job import JobRequest, Outcome
from scheduler.errors import FleetError, LibraryMismatch, ServerUnavailable
from scheduler.store.actor import by
from scheduler.store.client import Client
from scheduler.store.codec import Answer, MirrorPage, Shortlist, pack_claim, read_answer, read_answers, read_mirror
from scheduler.store.explained import ExplainedPage, read_explained
from scheduler.store.library import Library, bad_input, read_library

# of one call: claims, and the nodes that they show together
CLAIMS_MAX, NODES_MAX = 16, 512
MIRROR_PAGE = 100

Mark = Literal["cordon", "uncordon", "drain"]


@dataclass(frozen=True, slots=True)
class Registered:
    incarnation: int
    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat that was taken: cancels are (job, fence); drain_ms is what is left to finish in, if draining.

    refused says why the longer offer that it brought was not.
    """

    ttl_ms: int
    cancels: tuple[tuple[JobId, Fence], ...]
    drain_ms: int | None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """The work may begin: it has remaining_ms, and this payload and traceparent ('' where it has none)."""

    remaining_ms: int
    payload: str
    attempt: int = 0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Reaped:
    nodes: int
    leases: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Applied:
    """Whether the configuration of pools or tenants was replaced, and the version that there is now."""

    done: bool
    config_version: int


def _pairs(fields: Mapping[str, object]) -> list[str]:
    return [str(word) for name, value in fields.items() for word in (name, value)]


def _acted(*optional: str | int) -> list[str | int]:
    """Trailing arguments, and who acts behind them; empty ones at the end are left out."""
    words = [*optional, by()]
    while words and words[-1] == "":
        words.pop()
    return words


class Functions:
    """Typed stubs of library fleet1 on one shard.

    Misuse is BadInput; a server that refuses or does not answer is ServerUnavailable; a missing function is
    LibraryMismatch. Nothing is retried here.
    """

    def __init__(self, client: Client, shard: str, library: Library | None = None) -> None:
        self.client = client
        self.shard = shard
        self._library = library or read_library()

    async def _call(self, name: str, *args: str | bytes | int) -> list[Any]:
        try:
            answer = await self.client.execute_command("FCALL", f"fleet1_{name}", 1, self.shard, *args)
        except ResponseError as error:
            raise self._refusal(str(error)) from error
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error
        if answer[0] == b"moving":
            raise ServerUnavailable(f"{self.shard} is frozen while its hash slot moves")
        return cast("list[Any]", answer)

    def _refusal(self, message: str) -> FleetError:
        if refused := bad_input(message):
            return refused
        if "Function not found" in message:
            return LibraryMismatch(f"the server lacks a function: run `fleet library load` ({message})")
        return ServerUnavailable(f"Redis refuses: {self._library.mapped(message)}")

    async def node_register(
        self, node: NodeId, *, endpoint: str, slots: int, capabilities: Sequence[str], **fields: object
    ) -> Registered:
        """Put the node into the fleet. fields: labels, cpu, gpu, mem, cpu_max, gpu_max, mem_max, ttl_ms."""
        first = {"endpoint": endpoint, "slots": slots, "capabilities": " ".join(capabilities)}
        _, incarnation, pools = (await self._call("node_register", node, *_pairs(first | fields)))[:3]
        return Registered(int(incarnation), tuple(pools.decode().split()))

    async def node_heartbeat(
        self, node: NodeId, incarnation: int, **fields: object
    ) -> Beat | Literal["unknown", "fenced"]:
        """The node lives. fields: cpu, gpu, mem (percent), slots, capabilities, labels, running (texts)."""
        answer = await self._call("node_heartbeat", node, incarnation, *_pairs(fields))
        word = answer[0].decode()
        if word != "ok":
            return "unknown" if word == "unknown" else "fenced"
        cancels: list[tuple[JobId, Fence]] = []
        drain_ms: int | None = None
        refused: str | None = None
        for kind, value in zip(answer[2::2], answer[3::2], strict=False):
            if kind == b"cancel":
                job, fence = value.decode().split(" ")
                cancels.append((JobId(job), Fence(int(fence))))
            elif kind == b"drain":
                drain_ms = int(value)
            elif kind == b"refused":
                refused = value.decode()
        return Beat(int(answer[1]), tuple(cancels), drain_ms, refused)

    async def node_mark(self, node: NodeId, mark: Mark, drain_ms: int | None = None) -> str | None:
        """The node's new state, or None where Redis does not know it."""
        answer = await self._call("node_mark", node, mark, *_acted("" if drain_ms is None else drain_ms))
        return answer[1].decode() if answer[0] == b"marked" else None

    async def node_remove(self, node: NodeId, incarnation: int) -> Literal["removed", "unknown", "fenced"]:
        return cast(
            "Literal['removed', 'unknown', 'fenced']", await self._word("node_remove", node, incarnation, *_acted())
        )

    async def pool_put(self, pool: PoolName, text: str) -> int:
        """Store one pool, given as JSON; answers the config_version that holds it."""
        return int((await self._call("pool_put", pool, text, *_acted()))[1])

    async def pool_remove(self, pool: PoolName) -> Literal["removed", "unknown"]:
        return cast("Literal['removed', 'unknown']", await self._word("pool_remove", pool, *_acted()))

    async def pools_apply(self, seen: int, text: str, source: int | None = None) -> Applied:
        """Replace the whole configuration, given as JSON, if `seen` is still its version.

        With source it is a copy of the first shard's of that version, and replaces any older copy.
        """
        more = _acted("") if source is None else [source]
        word, version = (await self._call("pools_apply", seen, text, *more))[:2]
        return Applied(word == b"applied", int(version))

    async def apikey_put(
        self, key: KeyId, value: ApiKey, seen: str | None = None
    ) -> Literal["stored", "exists", "changed", "unknown"]:
        """Store a new key, or with `seen`, the hash that it still has, one that is known."""
        text = msgspec.json.encode(value)
        word = await self._word("apikey_put", key, text, *_acted("" if seen is None else seen))
        return cast("Literal['stored', 'exists', 'changed', 'unknown']", word)

    async def apikey_remove(self, key: KeyId) -> Literal["removed", "unknown"]:
        return cast("Literal['removed', 'unknown']", await self._word("apikey_remove", key, *_acted()))

    async def tenant_put(self, tenant: Tenant, text: str) -> int:
        """Store a tenant's quotas, given as JSON; answers the tenants_version that holds them."""
        return int((await self._call("tenant_put", tenant, text, *_acted()))[1])

    async def tenant_remove(self, tenant: Tenant) -> Literal["removed", "unknown"]:
        return cast("Literal['removed', 'unknown']", await self._word("tenant_remove", tenant, *_acted()))

    async def tenants_apply(self, seen: int, text: str, source: int | None = None) -> Applied:
        """Replace the quotas of all tenants, given as JSON, as pools_apply does the pools."""
        copied = [] if source is None else [source]
        word, version = (await self._call("tenants_apply", seen, text, *copied))[:2]
        return Applied(word == b"applied", int(version))

    async def tenant_lend(
        self, tenant: Tenant, quota: str, direction: Literal["give", "take"], count: int, *version: int
    ) -> tuple[str, int, int]:
        """The word, and where it is "given" how much and by which version of the quotas; take needs that version."""
        answer = await self._call("tenant_lend", tenant, quota, direction, count, *version)
        word: str = answer[0].decode()
        return (word, int(answer[1]), int(answer[2])) if word == "given" else (word, 0, 0)

    async def explain(self, demand: str, cursor: str = "0") -> ExplainedPage:
        """One page of why a demand, given as JSON, is placed or not; see lua/explain.lua."""
        return read_explained(await self._call("explain", demand, cursor))

    async def _word(self, name: str, *args: str | bytes | int) -> str:
        return str((await self._call(name, *args))[0].decode())

    async def job_claim(self, claims: Sequence[tuple[JobRequest, Shortlist]]) -> list[Answer]:
        """Up to 16 claims in one round trip; an answer for each, in order. Safe to repeat: claims go by job id."""
        packed = [pack_claim(request, shortlist) for request, shortlist in claims]
        answers = read_answers((await self._call("job_claim", *packed))[1])
        return [read_answer(request.id, raw) for (request, _), raw in zip(claims, answers, strict=True)]

    async def job_start(self, job: JobId, fence: Fence) -> Running | Literal["fenced", "unknown"]:
        answer = await self._call("job_start", job, fence)
        if answer[0] == b"running":
            # a library that was loaded before this release says neither
            attempt = int(answer[3]) if len(answer) > 3 else 0
            traceparent = answer[4].decode() if len(answer) > 4 else ""
            return Running(int(answer[1]), answer[2].decode(), attempt, traceparent)
        return "unknown" if answer[0] == b"unknown" else "fenced"

    async def job_finish(
        self, job: JobId, fence: Fence, outcome: Outcome, result: str = ""
    ) -> Literal["finished", "duplicate", "fenced", "unknown"]:
        """End the job under this fence; result is text of at most 262,144 bytes."""
        word = await self._word("job_finish", job, fence, outcome, result)
        return cast("Literal['finished', 'duplicate', 'fenced', 'unknown']", word)

    async def job_cancel(self, job: JobId) -> Literal["cancelled", "duplicate", "unknown", "moved"]:
        return cast(
            "Literal['cancelled', 'duplicate', 'unknown', 'moved']", await self._word("job_cancel", job, *_acted())
        )

    async def reap(self, maximum: int = 32) -> Reaped:
        """One bounded turn of reaping; call again while it finds maximum of something."""
        _, nodes, leases, jobs = (await self._call("reap", maximum))[:4]
        return Reaped(int(nodes), int(leases), int(jobs))

    async def mirror_read(
        self,
        cursor: int,
        complete: int,
        config_version: int | None,
        tenants_version: int = 0,
        *,
        truths: bool = False,
    ) -> MirrorPage:
        """What changed after version cursor, at most 100 nodes; see lua/mirror_read.lua for the two versions."""
        config = "" if config_version is None else str(config_version)
        extra = [MIRROR_PAGE, int(truths), tenants_version]
        answer = await self._call("mirror_read", cursor, complete, config, *extra)
        return read_mirror(tenants_version, *answer[1:8])
