"""The functions by which a job moves between shards, and by which a fleet is divided into them."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import msgpack

from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.store.codec import Answer, pack_moved, read_answer, read_answers
from scheduler.store.functions import Functions

Elsewhere = Literal["elsewhere", "here", "unknown"]


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs that wait: whose, for what (`wanted` is JSON), how many, and the first 16 of them."""

    tenant: Tenant
    wanted: str
    count: int
    jobs: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A job that is to be in the shard `tag`; `record` is empty where that is not this shard's to see to."""

    job: JobId
    tag: str
    hold: str
    settled: bool
    record: bytes


class Moves(Functions):
    """Typed stubs of these functions on one shard; raises as Functions does."""

    async def job_move(
        self, job: JobId, tag: str, hold: str, owner: tuple[Tenant, str] | None = None
    ) -> bytes | Elsewhere:
        """Note that the job is to be in another shard; the record that it needs there, empty for one with an owner.

        `owner`, tenant and digest, is given for a job that no shard has yet; else it must be one that waits here.
        """
        answer = await self._call("job_move", job, tag, hold, *(owner or ()))
        return cast("bytes", answer[1]) if answer[0] == b"moved" else cast("Elsewhere", answer[0].decode())

    async def job_take(self, job: JobId, record: bytes, hold: str) -> Answer:
        """Give a job that waits elsewhere the slot that is held for it here. Safe to repeat."""
        answer = await self._call("job_claim", pack_moved(job, record, hold))
        return read_answer(job, read_answers(answer[1])[0])

    async def job_return(self, job: JobId, hold: str) -> Literal["returned"] | Elsewhere:
        """The move under this token came to nothing, for ever: the job waits here again, or is forgotten."""
        return cast("Literal['returned'] | Elsewhere", await self._word("job_return", job, hold))

    async def job_settle(self, job: JobId, hold: str, *, lives: bool) -> Literal["settled"] | Elsewhere:
        """The other shard has the job: keep no more of it here than where it is, for as long as it lives there."""
        return cast("Literal['settled'] | Elsewhere", await self._word("job_settle", job, hold, int(lives)))

    async def moves_due(self, maximum: int = 32) -> list[Move]:
        """Moves to look after; for some seconds nobody else is told of them."""
        told: list[list[Any]] = msgpack.unpackb((await self._call("moves_due", maximum))[1], raw=True)
        return [
            Move(JobId(job.decode()), tag.decode(), hold.decode(), settled, record)
            for job, tag, hold, settled, record in told
        ]

    async def queues_read(self, reader: str) -> list[Queue] | None:
        """What waits in this shard; None where another reader looks after it now."""
        answer = await self._call("queues_read", reader)
        if answer[0] != b"queues":
            return None
        return [
            Queue(Tenant(tenant), wanted, count, tuple(map(JobId, jobs)))
            for tenant, wanted, count, jobs in msgpack.unpackb(answer[1])
        ]

    async def hold_drop(self, hold: str) -> Literal["dropped", "unknown"]:
        """Give a held slot back."""
        return cast("Literal['dropped', 'unknown']", await self._word("hold_drop", hold))

    async def shard_find(self, node: NodeId) -> str:
        """The prefix of the shard that a node belongs to; to be asked of the first shard."""
        return str((await self._call("shard_find", node))[1].decode())

    async def shard_init(
        self, tags: tuple[str, ...], *, restore: bool = False, look: bool = False
    ) -> tuple[str, str]:
        """Tell the shard which there are: `initialised`, or `busy` with what, or `other` and those that it has.

        With look nothing changes.
        """
        extra = ["look"] if look else ["1"] if restore else []
        answer = await self._call("shard_init", " ".join(tags), *extra)
        return answer[0].decode(), answer[1].decode() if len(answer) > 1 else ""

    async def shard_freeze(self, what: Literal["freeze", "thaw"]) -> Literal["frozen", "thawed"]:
        return cast("Literal['frozen', 'thawed']", await self._word("shard_freeze", what))
