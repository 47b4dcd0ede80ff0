"""Placing over several shards: which one to ask, and how a job whose id leads to one of them comes to be in another.

A slot is held first, under a token that nobody else has. Then the shard that the id leads to notes where the job is
to be: of several tries one wins. Then the held slot becomes the job's. A hold that lapsed can never become anything,
so the note may be taken back, and at no step can the job come to be twice, whoever stops in the middle.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Sequence

import msgspec

from scheduler.domain.ids import JobId
from scheduler.domain.job import JobRequest
from scheduler.domain.reason import Reason, RefusalClass
from scheduler.engine.dispatch import RETRY_AFTER_MS, Placement, Refusal, ShardVerdict, Verdict
from scheduler.engine.lending import Lending
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards
from scheduler.errors import FleetError, ServerUnavailable
from scheduler.store.codec import Crowded, Exists, Held, Moved

HOLD_MS = 2_000
_BETWEEN_SHARDS = (Held, Moved)
_CLASSES = (RefusalClass.QUOTA, RefusalClass.OVERLOADED, RefusalClass.UNAVAILABLE, RefusalClass.IMPOSSIBLE)


def new_hold() -> str:
    return f"hold.{secrets.token_hex(12)}"


def merged(refusals: Sequence[Refusal]) -> Refusal:
    """One refusal of several shards: the mildest class, and the nodes of all."""
    reasons: Counter[Reason] = Counter()
    for refusal in refusals:
        reasons.update(refusal.reasons)
    mildest = min((refusal.refusal for refusal in refusals), key=_CLASSES.index)
    age_ms = max(refusal.snapshot_age_ms for refusal in refusals)
    early = all(refusal.early for refusal in refusals if refusal.refusal is mildest)
    return Refusal(mildest, dict(reasons), age_ms, RETRY_AFTER_MS[mildest], early)


class Spreader:
    """Places requests over the shards; with one shard it only passes them on."""

    def __init__(self, shards: Shards, deadline_ms: int) -> None:
        self._shards = shards
        self._lending = Lending(shards)
        self._deadline_ms = deadline_ms
        self._settling: set[asyncio.Task[None]] = set()
        # jobs that were placed in another shard than their id leads to
        self.moved = 0

    async def place(self, request: JobRequest) -> Verdict:
        """Refused only after every shard that could serve it said no; raises ServerUnavailable past the deadline."""
        if len(self._shards) == 1:
            return _final(await self._shards.first.dispatcher.place(request))
        deadline = asyncio.get_running_loop().time() + self._deadline_ms / 1000
        if request.digest == "-":
            return await self._made_here(request, deadline)
        return await self._chosen(request, deadline)

    async def close(self) -> None:
        await asyncio.gather(*self._settling, return_exceptions=True)

    async def _made_here(self, request: JobRequest, deadline: float) -> Verdict:
        """The id is ours: each shard is asked under another one, which leaves nothing where it refuses."""
        refusals: list[Refusal] = []
        wanting: list[Shard] = []
        order = self._shards.order(request)
        for shard in order:
            verdict = await shard.dispatcher.place(_now(_tagged(request, shard)), deadline)
            if not isinstance(verdict, Refusal):
                shard.took(request.demand, 1)
                return _final(verdict)
            shard.took(request.demand, 1 << 30)
            refusals.append(verdict)
            if verdict.refusal is not RefusalClass.IMPOSSIBLE:
                wanting.append(shard)
        full = [
            shard for shard, refusal in zip(order, refusals, strict=True) if refusal.refusal is RefusalClass.QUOTA
        ]
        if full and await self._lending.lend(request.demand.tenant, "concurrent_jobs", full[0]):
            verdict = await full[0].dispatcher.place(_now(_tagged(request, full[0])), deadline)
            if not isinstance(verdict, Refusal):
                return _final(verdict)
        if request.wait_ms and wanting:
            return await self._waiting(request, wanting, deadline)
        return self._refused(refusals, order)

    async def _waiting(self, request: JobRequest, wanting: Sequence[Shard], deadline: float) -> Verdict:
        """In the first of these shards that has a part left of the tenant's quota of waiting jobs."""
        for shard in wanting:
            verdict = _final(await shard.dispatcher.place(_tagged(request, shard), deadline))
            if not (isinstance(verdict, Crowded) and verdict.limit == "waiting_jobs"):
                return verdict
        if await self._lending.lend(request.demand.tenant, "waiting_jobs", wanting[0]):
            verdict = _final(await wanting[0].dispatcher.place(_tagged(request, wanting[0]), deadline))
        return verdict

    async def _chosen(self, request: JobRequest, deadline: float) -> Verdict:
        """The id is the client's: the shard that it leads to is asked first, and knows where the job went."""
        home = self._shards.of_job(request.id)
        order = self._shards.order(request)
        if request.session is None or request.affinity == "none":
            order = [home, *(shard for shard in order if shard is not home)]
        while True:
            refusals: list[Refusal] = []
            for shard in order:
                verdict = await self._asked(request, home, shard, deadline)
                if verdict is None:
                    break
                if not isinstance(verdict, Refusal):
                    shard.took(request.demand, 1)
                    return verdict
                shard.took(request.demand, 1 << 30)
                refusals.append(verdict)
            else:
                break
            # the job is known somewhere, or was a moment ago: its home knows
            order = [home, *(shard for shard in order if shard is not home)]
            if asyncio.get_running_loop().time() >= deadline:
                raise ServerUnavailable("the job moves between shards: no decision in time")
        full = [
            shard for shard, refusal in zip(order, refusals, strict=True) if refusal.refusal is RefusalClass.QUOTA
        ]
        if full and await self._lending.lend(request.demand.tenant, "concurrent_jobs", full[0]):
            placed = await self._asked(request, home, full[0], deadline)
            if placed is not None and not isinstance(placed, Refusal):
                return placed
        if request.wait_ms and any(refusal.refusal is not RefusalClass.IMPOSSIBLE for refusal in refusals):
            waits = msgspec.structs.replace(request, elsewhere=True)
            waiting = await home.dispatcher.place(waits, deadline)
            crowded = isinstance(waiting, Crowded) and waiting.limit == "waiting_jobs"
            if crowded and await self._lending.lend(request.demand.tenant, "waiting_jobs", home):
                waiting = await home.dispatcher.place(waits, deadline)
            followed = await self._followed(request, home, waiting, deadline)
            if followed is None:
                raise ServerUnavailable("the job moves between shards: no decision in time")
            return followed
        return self._refused(refusals, order)

    def _refused(self, refusals: Sequence[Refusal], asked: Sequence[Shard]) -> Refusal:
        # by now one that was left out may be back, and have the room
        if missing := [f"{{{shard.tag}}}" for shard in self._shards if shard not in asked]:
            raise ServerUnavailable(f"no other shard has room, and these do not answer: {' '.join(missing)}")
        return merged(refusals)

    async def _asked(self, request: JobRequest, home: Shard, shard: Shard, deadline: float) -> Verdict | None:
        """What the shard says; None where all is to be asked again, beginning at the job's home."""
        if shard is home:
            verdict = await home.dispatcher.place(_now(request), deadline)
            return await self._followed(request, home, verdict, deadline)
        held = msgspec.structs.replace(
            request, id=JobId(new_hold()), digest="-", hold_ms=HOLD_MS, wait_ms=0, payload=None
        )
        held = msgspec.structs.replace(held, hold=held.id)
        verdict = await shard.dispatcher.place(held, deadline)
        if not isinstance(verdict, Held):
            return _final(verdict)
        try:
            noted = await home.functions.job_move(
                request.id, shard.tag, held.hold, (request.demand.tenant, request.digest)
            )
        except ServerUnavailable:
            # or the slot would be taken for nobody while the home is away, once for each try
            with contextlib.suppress(FleetError):
                await shard.functions.hold_drop(held.hold)
            raise
        if not isinstance(noted, bytes):
            await shard.functions.hold_drop(held.hold)
            return None
        moved = Moved(shard.tag, held.hold)
        placed = await self._followed(request, home, moved, deadline)
        if isinstance(placed, Placement):
            self.moved += 1
            return msgspec.structs.replace(placed, candidates=len(verdict.used))
        return placed

    async def _followed(
        self, request: JobRequest, at: Shard, verdict: ShardVerdict, deadline: float
    ) -> Verdict | None:
        """The verdict of the shard that the job moved to, from shard to shard; None where it never came there."""
        while isinstance(verdict, Moved):
            moved, there = verdict, self._shards.tagged(verdict.tag)
            verdict = await there.dispatcher.place(_now(msgspec.structs.replace(request, hold=moved.hold)), deadline)
            if verdict == "lapsed" or (isinstance(verdict, Moved) and verdict.tag == at.tag):
                # a word that only leads back is of an earlier job of this id
                await at.functions.job_return(request.id, moved.hold)
                return None
            if asyncio.get_running_loop().time() >= deadline:
                raise ServerUnavailable("the job moves between shards: no decision in time")
            if isinstance(verdict, Placement | Exists):
                self._settle(at, request.id, moved.hold)
            at = there
        return _final(verdict)

    def _settle(self, at: Shard, job: JobId, hold: str) -> None:
        """The job is acknowledged without it: who looks after moves would do it a little later."""

        async def settle() -> None:
            await at.functions.job_settle(job, hold, lives=True)

        task = asyncio.create_task(settle())
        self._settling.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: "asyncio.Task[None]") -> None:
        self._settling.discard(task)
        if not task.cancelled():
            task.exception()


def _tagged(request: JobRequest, shard: Shard) -> JobRequest:
    return msgspec.structs.replace(request, id=JobId(f"{shard.tag}.{secrets.token_hex(16)}"))


def _now(request: JobRequest) -> JobRequest:
    """The same, refused where it would wait: another shard may have room."""
    return msgspec.structs.replace(request, wait_ms=0) if request.wait_ms else request


def _final(verdict: ShardVerdict) -> Verdict:
    if isinstance(verdict, _BETWEEN_SHARDS) or verdict == "lapsed":
        raise ServerUnavailable("the shard spoke of a move that nobody asked for: are its tags the fleet's?")
    return verdict
