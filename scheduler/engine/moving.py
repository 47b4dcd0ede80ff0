"""Jobs that wait in one shard while another has room are moved there; and moves that were left halfway are ended."""

import asyncio
import contextlib
import logging
import random
import secrets

import msgspec

from scheduler.domain.demand import Demand
from scheduler.domain.ids import JobId, NodeId, PoolName, Token
from scheduler.domain.job import JobRequest, JobState
from scheduler.engine.lending import Lending
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards
from scheduler.engine.spreading import HOLD_MS, new_hold
from scheduler.errors import FleetError
from scheduler.store.codec import Exists, Held, Moved, Placed
from scheduler.store.moves import Move, Queue
from scheduler.store.views import Whereabouts

log = logging.getLogger("fleet.engine")
TURN_S = 0.25
# Jobs of one queue that are moved in a round, how many of them at a time, and rounds of one turn.
MOVED_MAX, AT_ONCE, ROUNDS = 16, 8, 16
# Moves that were left halfway are due after some seconds: asking for them more often finds nothing.
DUE_TURNS, DUE_MAX = 4, 32


class _Wanted(msgspec.Struct, frozen=True):
    """What the jobs of one queue agree in, as the functions store it."""

    any_of: list[list[str]]
    pool: str
    fallback: bool
    languages: str
    exclude: str


def _request(queue: Queue) -> JobRequest:
    wanted = msgspec.json.decode(queue.wanted, type=_Wanted)
    demand = Demand(
        tuple(frozenset(map(Token, tokens)) for tokens in wanted.any_of),
        queue.tenant,
        PoolName(wanted.pool) if wanted.pool else None,
        wanted.fallback,
        tuple(wanted.languages.split()),
    )
    return JobRequest(JobId(""), "-", demand, exclude=frozenset(map(NodeId, wanted.exclude.split())))


class Mover:
    """One in each replica; for each shard the replicas take turns, and if two meet, one of them wins each job."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._lending = Lending(shards)
        self._name = f"r{secrets.token_hex(8)}"
        # jobs that waited in one shard and got a slot in another one through this replica
        self.moved = 0

    async def run(self) -> None:
        turn = 0
        while len(self._shards) > 1:
            await asyncio.sleep(TURN_S * random.uniform(0.8, 1.2))
            turn += 1
            for shard in self._shards:
                if shard.away:
                    # what does not answer must not keep the jobs of the others waiting
                    continue
                try:
                    for _ in range(ROUNDS if shard.mirror.waiting else 0):
                        if not await self._relieve(shard):
                            break
                    if turn % DUE_TURNS == 0:
                        await self._end_moves(shard)
                except FleetError:
                    continue
                except Exception:
                    log.exception("moving_failed")

    async def _relieve(self, shard: Shard) -> bool:
        """Move the first jobs of each queue to where their demand has room; whether more might be moved at once."""
        queues, more = await shard.functions.queues_read(self._name) or [], False
        for queue in queues:
            request = _request(queue)
            jobs = list(queue.jobs[:MOVED_MAX])
            for other in self._shards.order(request):
                if other is shard or other.room(request.demand).slots == 0:
                    continue
                while jobs and other.room(request.demand).slots > 0:
                    page, jobs = jobs[:AT_ONCE], jobs[AT_ONCE:]
                    done = await asyncio.gather(*(self._move(shard, other, job, request) for job in page))
                    jobs = [job for job, moved in zip(page, done, strict=True) if not moved] + jobs
                    if not all(done):
                        other.took(request.demand, 1 << 30)
            more = more or (not jobs and queue.count > MOVED_MAX)
            if jobs:
                await self._lend(shard, request, len(jobs))
        return more

    async def _lend(self, shard: Shard, request: JobRequest, jobs: int) -> None:
        """Where a quota keeps them waiting, parts of it that lie idle go to where their demand has room.

        To be taken by this shard serves them; from another one with room they are moved to it in the next turn.
        """
        best = next((s for s in (shard, *self._shards.order(request)) if s.room(request.demand).slots > 0), None)
        if best is not None:
            await self._lending.lend(request.demand.tenant, "concurrent_jobs", best, jobs)

    async def _move(self, shard: Shard, other: Shard, job: JobId, wanted: JobRequest) -> bool:
        """Whether the job need not be tried elsewhere: it is in the other shard, or does not wait any more."""
        hold = new_hold()
        held = msgspec.structs.replace(wanted, id=JobId(hold), hold=hold, hold_ms=HOLD_MS)
        try:
            if not isinstance(await other.dispatcher.place(held), Held):
                return False
            other.took(wanted.demand, 1)
            record = await shard.functions.job_move(job, other.tag, hold)
            if not isinstance(record, bytes):
                await other.functions.hold_drop(hold)
                return True
            await self._hand_over(shard, other, job, hold, record)
        except FleetError:
            # whatever was begun is ended by whoever asks for the moves that are due
            return False
        return True

    async def _hand_over(self, shard: Shard, other: Shard, job: JobId, hold: str, record: bytes) -> None:
        answer = await other.functions.job_take(job, record, hold)
        self.moved += isinstance(answer, Placed)
        if isinstance(answer, Placed | Exists | Moved):
            await shard.functions.job_settle(job, hold, lives=True)
        elif answer in {"lapsed", "differs"}:
            # differs: another job of this id is there, which may be so after a failover that forgot
            await shard.functions.job_return(job, hold)

    async def _end_moves(self, shard: Shard) -> None:
        for _ in range(ROUNDS):
            due = await shard.functions.moves_due(DUE_MAX)
            for start in range(0, len(due), AT_ONCE):
                await asyncio.gather(*(self._end_one(shard, move) for move in due[start : start + AT_ONCE]))
            # each job that moved is looked after once it has ended: fewer a turn than move would pile up
            if len(due) < DUE_MAX:
                break

    async def _end_one(self, shard: Shard, move: Move) -> None:
        with contextlib.suppress(FleetError):
            other = self._shards.tagged(move.tag)
            # it is due again in some seconds
            if not other.away:
                await self._end(shard, other, move)

    async def _end(self, shard: Shard, other: Shard, move: Move) -> None:
        if move.record:
            await self._hand_over(shard, other, move.job, move.hold, move.record)
            return
        known = await _kept(other, shard, move.job)
        if known is None and not move.settled:
            # whoever noted the move may still give the slot to the job, but not once it is given back
            await other.functions.hold_drop(move.hold)
            known = await _kept(other, shard, move.job)
            if known is None:
                await shard.functions.job_return(move.job, move.hold)
                return
        lives = known is not None and (known.state == "moved" or not JobState(known.state).ended)
        await shard.functions.job_settle(move.job, move.hold, lives=lives)


async def _kept(other: Shard, shard: Shard, job: JobId) -> Whereabouts | None:
    """What the other shard knows of the job; a word that only leads back here is of an earlier job of this id."""
    known = await other.views.whereabouts(job)
    return None if known is not None and known.tag == shard.tag and not known.waits else known
