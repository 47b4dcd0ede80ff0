"""Jobs, nodes and the shard as they stand in Redis, read for people; placement never waits for these."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from scheduler.domain.configuration import Configuration, LanguagePools, Limits
from scheduler.domain.ids import Fence, JobId, NodeId, PoolName, Tenant
from scheduler.domain.job import PRIORITY, JobState
from scheduler.domain.pool import DEFAULT_POOLS, Pool
from scheduler.domain.views import JobView, NodeAddress, NodeView, PoolView
from scheduler.errors import ServerUnavailable
from scheduler.store.client import Client, heeding_cancel
from scheduler.store.keys import free_key, job_key, leases_key, node_key, nodes_key, pool_key, pools_key


class Whereabouts(msgspec.Struct, frozen=True):
    """Whose job it is, and the shard that it moved to; it waits here until that is known to have it."""

    tenant: str
    state: str
    tag: str | None
    waits: bool


class Elsewhere(msgspec.Struct, frozen=True):
    """The job is in the shard of this tag. `view` is set until that shard is known to have it."""

    tenant: str
    tag: str
    view: JobView | None


_JOB_FIELDS = tuple(name for name in JobView.__struct_fields__ if name != "id")
_JOB_NAMES = (*(name.encode() for name in _JOB_FIELDS), b"shard")
_ALIVE = frozenset(state.value.encode() for state in JobState if not state.ended)


def _text(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items()}


def _job_view(job: JobId, fields: Mapping[str, str], endpoint: str) -> JobView:
    def number(name: str) -> int | None:
        return int(fields[name]) if name in fields else None

    return JobView(
        id=job,
        state=JobState(fields["state"]),
        tenant=fields["tenant"],
        node=NodeAddress(fields["node"], endpoint) if "node" in fields else None,
        pool=fields.get("pool"),
        fence=number("fence"),
        attempt=number("attempt") or 0,
        lease_expires_at_ms=number("lease_expires_at_ms"),
        priority=int(fields.get("priority", PRIORITY)),
        demand=fields["demand"],
        result=fields.get("result"),
        reason=fields.get("reason") or None,
        created_at_ms=int(fields["created_at_ms"]),
        started_at_ms=number("started_at_ms"),
        ended_at_ms=number("ended_at_ms"),
    )


def _told(job: JobId, fields: dict[str, str], endpoint: str) -> JobView | Elsewhere:
    tag = fields.pop("shard", None)
    if tag is None:
        return _job_view(job, fields, endpoint)
    # until the other shard has it, it waits
    view = _job_view(job, fields | {"state": JobState.PENDING}, "") if "demand" in fields else None
    return Elsewhere(fields["tenant"], tag, view)


def _node_view(node: NodeId, fields: Mapping[str, str], used: int) -> NodeView:
    return NodeView(
        id=node,
        state=fields["state"],
        endpoint=fields["endpoint"],
        slots=int(fields["slots"]),
        used=used,
        capabilities=fields["capabilities"].split(),
        labels=dict(pair.split("=", 1) for pair in fields["labels"].split()),
        pools=fields.get("pools", "").split(),
        cpu=float(fields["cpu"]),
        gpu=float(fields["gpu"]),
        mem=float(fields["mem"]),
        incarnation=int(fields["incarnation"]),
        config_version=int(fields.get("config_version", 0)),
        heartbeat_at_ms=int(fields["heartbeat_at_ms"]),
        registered_at_ms=int(fields["registered_at_ms"]),
    )


def _configuration(meta: Sequence[bytes | None], stored: Mapping[str, str]) -> tuple[int, Configuration]:
    version, language_pools, weights = int(meta[0] or 0), meta[4], meta[5]
    held = {PoolName(name): msgspec.json.decode(text, type=Pool) for name, text in stored.items()}
    named = zip(Limits.__struct_fields__, meta[1:4], strict=True)
    return version, Configuration(
        pools=held if version else dict(DEFAULT_POOLS),
        limits=Limits(**{name: float(value) for name, value in named if value is not None}),
        language_pools=msgspec.json.decode(language_pools, type=LanguagePools) if language_pools else None,
        weights=msgspec.json.decode(weights, type=dict[str, int]) if weights else {},
    )


class Serving(msgspec.Struct, frozen=True):
    """The pools that serve a tenant, under the configuration of this version."""

    config_version: int
    pools: frozenset[str]

    def shown(self, node: NodeView) -> NodeView | None:
        """What the tenant may see of the node: nothing of pools that are others', nor of a node without its own.

        One whose pools are still to be computed anew is not shown yet.
        """
        if node.config_version != self.config_version or self.pools.isdisjoint(node.pools):
            return None
        return msgspec.structs.replace(node, pools=[pool for pool in node.pools if pool in self.pools])


class Views:
    """Reads of one shard; every method raises ServerUnavailable where Redis does not answer."""

    def __init__(self, client: Client, shard: str) -> None:
        self._client = client
        self._shard = shard

    async def _pipeline(self, commands: Sequence[tuple[str | int | bytes, ...]]) -> list[Any]:
        try:
            with heeding_cancel():
                async with self._client.pipeline(transaction=False) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    return list(await pipe.execute())
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error

    async def job(self, job: JobId) -> JobView | Elsewhere | None:
        return (await self.jobs([job]))[0]

    async def jobs(self, jobs: Sequence[JobId]) -> list[JobView | Elsewhere | None]:
        """The jobs in the order asked for, None for each that is unknown; payloads are left where they are."""
        found = await self._pipeline([("HMGET", job_key(self._shard, job), *_JOB_FIELDS, "shard") for job in jobs])
        held = [_text({k: v for k, v in zip(_JOB_NAMES, raw, strict=True) if v is not None}) for raw in found]
        nodes = list(dict.fromkeys(NodeId(fields["node"]) for fields in held if "node" in fields))
        asked: list[tuple[str | int, ...]] = [("HGET", node_key(self._shard, node), "endpoint") for node in nodes]
        answers = await self._pipeline(asked) if asked else []
        endpoints = {node: raw.decode() if raw else "" for node, raw in zip(nodes, answers, strict=True)}
        return [
            _told(job, fields, endpoints.get(NodeId(fields.get("node", "")), "")) if "state" in fields else None
            for job, fields in zip(jobs, held, strict=True)
        ]

    async def whereabouts(self, job: JobId) -> Whereabouts | None:
        asked = ("HMGET", job_key(self._shard, job), "tenant", "state", "shard", "demand")
        ((tenant, state, tag, demand),) = await self._pipeline([asked])
        if state is None:
            return None
        return Whereabouts(tenant.decode(), state.decode(), tag.decode() if tag else None, demand is not None)

    async def holds(self, node: NodeId, job: JobId, fence: Fence) -> tuple[bool, str | None]:
        """Whether this attempt of the job is or was the node's, and the tag of the shard that the job moved to.

        An attempt that has ended without the node is still its own until it confirms that.
        """
        asked = ("HMGET", job_key(self._shard, job), "node", "fence", f"ending:{fence}", "shard")
        ((holder, held, ending, tag),) = await self._pipeline([asked])
        own = node.encode()
        return (holder == own and held == str(fence).encode()) or ending == own, tag.decode() if tag else None

    async def ended(self, jobs: Sequence[JobId]) -> list[JobId]:
        """Those of the jobs that have ended, moved to another shard or are not known any more."""
        states = await self._pipeline([("HGET", job_key(self._shard, job), "state") for job in jobs])
        return [job for job, state in zip(jobs, states, strict=True) if state not in _ALIVE]

    async def nodes(self, nodes: Sequence[NodeId]) -> list[NodeView]:
        """Those of the nodes that exist, in the order asked for."""
        commands: list[tuple[str | int, ...]] = []
        for node in nodes:
            commands += [("HGETALL", node_key(self._shard, node)), ("ZCARD", leases_key(self._shard, node))]
        answers = await self._pipeline(commands) if commands else []
        triples = zip(nodes, answers[::2], answers[1::2], strict=True)
        return [_node_view(node, _text(raw), used) for node, raw, used in triples if raw]

    async def node_ids(self) -> list[NodeId]:
        """Every node that is known, lost ones included, by id; asked for in pieces."""
        found: set[bytes] = set()
        cursor = b"0"
        while True:
            ((cursor, pairs),) = await self._pipeline([("ZSCAN", nodes_key(self._shard), cursor, "COUNT", 1_000)])
            found.update(pair[0] if isinstance(pair, tuple | list) else pair for pair in pairs)
            if int(cursor) == 0:
                return sorted(NodeId(node.decode()) for node in found)

    async def now_ms(self) -> int:
        """The server's wall clock."""
        try:
            seconds, micros = await self._client.ask(await self._client.primary_of(self._shard), "TIME")
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error
        return int(seconds) * 1000 + int(micros) // 1000

    async def configuration(self) -> tuple[int, Configuration]:
        """The configuration, automatic pools included, and its version, which is read first: it is never too new."""
        meta, stored = await self._pipeline(
            [
                ("HMGET", self._shard, "config_version", *Limits.__struct_fields__, "language_pools", "weights"),
                ("HGETALL", pools_key(self._shard)),
            ]
        )
        return _configuration(meta, _text(stored))

    async def pools(self) -> tuple[int, list[PoolView]]:
        """The config_version, and every pool by name."""
        version, configuration = await self.configuration()
        pools = sorted(configuration.pools.items())
        commands: list[tuple[str | int, ...]] = []
        for name, _ in pools:
            key = pool_key(self._shard, name)
            commands += [("SCARD", key), ("SINTERCARD", 2, free_key(self._shard), key)]
        counts = await self._pipeline(commands) if commands else []
        return version, [
            PoolView(name=name, members=members, free=free, **msgspec.structs.asdict(pool))
            for (name, pool), members, free in zip(pools, counts[::2], counts[1::2], strict=True)
        ]

    async def serving(self, tenant: Tenant) -> "Serving":
        version, configuration = await self.configuration()
        return Serving(version, frozenset(name for name, pool in configuration.pools.items() if pool.serves(tenant)))

    async def settled(self) -> bool:
        """Whether every node's pools have been computed under the present configuration."""
        version, _ = await self.configuration()
        (behind,) = await self._pipeline([("ZCOUNT", f"{self._shard}:settled", "-inf", f"({version}")])
        return int(behind) == 0

    async def shard(self) -> tuple[dict[str, str], int, int]:
        """The shard's meta, the number of leases and of free nodes."""
        meta, leases, free = await self._pipeline(
            [("HGETALL", self._shard), ("ZCARD", f"{self._shard}:leases"), ("SCARD", f"{self._shard}:free")]
        )
        return _text(meta), leases, free
