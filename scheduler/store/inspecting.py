"""What people look at more closely than any program: a node's leases, and the queues with the jobs at their heads."""

import msgspec

from scheduler.domain.ids import JobId, NodeId
from scheduler.store.keys import leases_key, node_key, queue_key, waiting_key
from scheduler.store.views import Views

SHOWN_MAX = 50
_LEASED = ("claimed", "running", "")


class LeaseView(msgspec.Struct, frozen=True):
    """A job that has a slot."""

    job: str
    node: str
    state: str
    tenant: str


class QueueView(msgspec.Struct, frozen=True):
    """Jobs of one tenant that wait for the same; `first` are the next ones to be served."""

    key: str
    tenant: str
    any_of: tuple[tuple[str, ...], ...]
    pool: str
    jobs: int
    first: tuple[str, ...]


class _Wanted(msgspec.Struct, frozen=True):
    """The part of a stored demand that people read."""

    any_of: tuple[tuple[str, ...], ...]
    pool: str = ""


class Inspected(Views):
    """Reads of one shard, bounded in what they answer."""

    async def limits(self, node: NodeId) -> dict[str, float]:
        """The node's own limits of load; those of the fleet hold where it has none."""
        names = ("cpu_max", "gpu_max", "mem_max")
        (held,) = await self._pipeline([("HMGET", node_key(self._shard, node), *names)])
        return {name.removesuffix("_max"): float(value) for name, value in zip(names, held, strict=True) if value}

    async def leases(self, node: NodeId | None = None) -> list[LeaseView]:
        """The first 50 leases by deadline: of the node, or of the whole shard."""
        key = f"{self._shard}:leases" if node is None else leases_key(self._shard, node)
        (members,) = await self._pipeline([("ZRANGE", key, 0, SHOWN_MAX - 1)])
        jobs = [JobId(member.decode().partition(" ")[0]) for member in members]
        asked = [("HMGET", f"{self._shard}:job:{job}", "node", "state", "tenant") for job in jobs]
        held = await self._pipeline(asked) if asked else []
        texts = [[(value or b"").decode() for value in fields] for fields in held]
        told = zip(jobs, texts, strict=True)
        # what ended between the two reads has no slot any more; a hold between shards has no job yet
        return [LeaseView(job, on or node or "", state, of) for job, (on, state, of) in told if state in _LEASED]

    async def queues(self) -> list[QueueView]:
        """Every queue, at most 256 of them, the longest first."""
        (raw,) = await self._pipeline([("HGETALL", waiting_key(self._shard))])
        names = {name.decode(): msgspec.json.decode(text, type=_Wanted) for name, text in raw.items()}
        commands: list[tuple[str | int, ...]] = []
        for name in names:
            commands += [("ZCARD", queue_key(self._shard, name)), ("ZRANGE", queue_key(self._shard, name), 0, 4)]
        answers = await self._pipeline(commands) if commands else []
        told = [
            QueueView(
                key=queue_key(self._shard, name),
                tenant=name.partition(":")[2],
                any_of=wanted.any_of,
                pool=wanted.pool,
                jobs=jobs,
                first=tuple(job.decode() for job in first),
            )
            for (name, wanted), jobs, first in zip(names.items(), answers[::2], answers[1::2], strict=True)
        ]
        return sorted(told, key=lambda queue: -queue.jobs)
