"""From a request to a verdict: select from the snapshot, claim in Redis, go on within the deadline."""

import asyncio
import random
from typing import Literal

import msgspec

from scheduler import tracing
from scheduler.domain.demand import Demand
from scheduler.domain.ids import NodeId
from scheduler.domain.job import JobRequest
from scheduler.domain.node import Node
from scheduler.domain.reason import Reason, RefusalClass
from scheduler.engine.batch import ClaimBatcher
from scheduler.engine.mirror import Mirror
from scheduler.errors import ServerUnavailable
from scheduler.placement.correct import correct
from scheduler.placement.eligible import Compiled, Eligible
from scheduler.placement.refusal import Breakdown, breakdown
from scheduler.placement.select import Candidates, excluded_positions, select
from scheduler.placement.snapshot import Snapshot
from scheduler.store.codec import Again, Answer, Crowded, Exists, Held, Moved, Placed, Refused, Shortlist, Waiting

PAGE = 256
_CLAIM = {"db.system.name": "redis", "db.operation.name": "FCALL fleet1_job_claim"}
_WITHOUT_LOADS = (Exists, Moved, str)
RETRY_AFTER_MS = {
    RefusalClass.OVERLOADED: 1_000,
    RefusalClass.UNAVAILABLE: 3_000,
    RefusalClass.IMPOSSIBLE: 0,
    RefusalClass.QUOTA: 1_000,
}


class Placement(msgspec.Struct, frozen=True, gc=False):
    """A placed job with what is known of how it came about; `conflict`: the whole shortlist was stale.

    `regret` is how much fuller the chosen node was than the best of the shortlist, by their true loads from 0 to 1.
    """

    placed: Placed
    candidates: int
    conflict: bool
    snapshot_age_ms: int
    fallback_used: bool
    regret: float


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Nothing was placed. Counts and their age are the snapshot's; `retry_after_ms` 0 means: do not ask again.

    `early`: nothing offers it, but the fleet is new or was emptied a moment ago, so that is not final.
    """

    refusal: RefusalClass
    reasons: dict[Reason, int]
    snapshot_age_ms: int
    retry_after_ms: int
    early: bool = False


Verdict = Placement | Exists | Refusal | Waiting | Crowded | Literal["differs", "denied"]
# What one shard says; the last three are between shards.
ShardVerdict = Verdict | Held | Moved | Literal["lapsed"]


class _Proposal(msgspec.Struct, frozen=True, gc=False):
    """What was shown to Redis for one request, and what it said."""

    snapshot: Snapshot
    eligible: Eligible
    candidates: Candidates
    nodes: list[Node]
    answer: Answer


class Dispatcher:
    """Places requests against one mirror. Holds no state that outlives a request but for compiled demands."""

    def __init__(self, mirror: Mirror, batcher: ClaimBatcher, *, candidates: int, deadline_ms: int) -> None:
        self._mirror = mirror
        self._batcher = batcher
        self._d = candidates
        self._deadline_ms = deadline_ms
        self._compiled = Compiled()
        self._rng = random.Random()
        self._counted: tuple[Snapshot | None, dict[tuple[object, frozenset[NodeId]], Breakdown]] = (None, {})

    async def place(self, request: JobRequest, deadline: float | None = None) -> ShardVerdict:
        """Claim until Redis has decided. Past the deadline: ServerUnavailable, and the same id may be sent again."""
        # the batcher keeps the deadline of a claim: nearly every request ends here, and needs no timer of its own
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._deadline_ms / 1000
        proposal: _Proposal | None = None
        failure: ServerUnavailable | None = None
        try:
            proposal = await self._propose(request)
            if type(proposal.answer) is Placed:
                return self._placement(proposal, proposal.answer)
        except ServerUnavailable as error:
            # past the deadline the caller is told so: whatever was claimed after that would run for nobody
            if asyncio.get_running_loop().time() >= deadline:
                raise
            failure = error
        return await self._go_on(request, proposal, failure, deadline)

    async def _go_on(
        self, request: JobRequest, proposal: _Proposal | None, failure: ServerUnavailable | None, deadline: float
    ) -> ShardVerdict:
        try:
            async with asyncio.timeout_at(deadline):
                pause = 0.01
                while True:
                    try:
                        verdict = await self._settle(request, proposal or await self._propose(request))
                    except ServerUnavailable as error:
                        # the claim may have been made: its id makes the next try find it
                        failure, verdict = error, None
                    if verdict is not None:
                        return verdict
                    proposal = None
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.2)
        except TimeoutError:
            raise ServerUnavailable(
                str(failure or f"no decision within {self._deadline_ms} ms: the fleet changes too fast to look at")
            ) from failure

    def eligible(self, demand: Demand) -> tuple[Snapshot, Eligible]:
        """The present snapshot, and the nodes in it that could ever take such a job."""
        snapshot = self._mirror.snapshot
        return snapshot, self._compiled.get(snapshot, demand)

    async def _propose(self, request: JobRequest) -> _Proposal:
        snapshot = self._mirror.snapshot
        eligible = self._compiled.get(snapshot, request.demand)
        candidates = select(snapshot, eligible, self._d, request.exclude, self._rng)
        return await self._claim(request, snapshot, eligible, candidates, offered=bool(eligible.tiers))

    async def _settle(self, request: JobRequest, proposal: _Proposal) -> ShardVerdict | None:
        """The verdict that an answer means; None where the request must be proposed again."""
        answer = proposal.answer
        if isinstance(answer, Again) and answer.why == "look":
            # too much for Redis to look at in one call: show it every eligible node, page by page
            proposal = await self._page_through(request, proposal)
            answer = proposal.answer
        if isinstance(answer, Again):
            await self._mirror.refresh()
            return None
        if isinstance(answer, Placed):
            return self._placement(proposal, answer)
        if isinstance(answer, Refused):
            if answer.epoch != self._mirror.snapshot.epoch:
                # Redis was emptied since the snapshot: only the present one can say what is impossible
                await self._mirror.refresh()
            return self._refusal(request, answer)
        return answer

    def _placement(self, proposal: _Proposal, answer: Placed) -> Placement:
        tried = len(proposal.nodes)
        return Placement(
            answer,
            tried,
            answer.looked and tried > 0,
            self._mirror.age_ms,
            # a pool that the snapshot does not know is of a newer configuration, and may be its first
            answer.placement.pool in proposal.eligible.wanted.order[1:],
            _regret(proposal, answer),
        )

    async def _claim(
        self,
        request: JobRequest,
        snapshot: Snapshot,
        eligible: Eligible,
        candidates: Candidates,
        *,
        offered: bool = True,
        look: bool = True,
        last: bool = False,
    ) -> _Proposal:
        nodes = [snapshot.node(position) for position in candidates.positions]
        shortlist = Shortlist(
            [node.id for node in nodes],
            [node.structure for node in nodes],
            candidates.ranks,
            snapshot.config_version,
            snapshot.structure_version,
            offered,
            look,
            last,
        )
        with tracing.span("claim", "CLIENT", _CLAIM):
            answer = await self._batcher.claim(request, shortlist)
        proposal = _Proposal(snapshot, eligible, candidates, nodes, answer)
        self._correct(proposal)
        return proposal

    def _correct(self, proposal: _Proposal) -> None:
        answer = proposal.answer
        if not isinstance(answer, _WITHOUT_LOADS):
            taken_on = answer.placement.node if isinstance(answer, Placed) else None
            correct(proposal.snapshot, self._mirror.snapshot, proposal.candidates.positions, answer.used, taken_on)

    async def _page_through(self, request: JobRequest, looked: _Proposal) -> _Proposal:
        snapshot, eligible, proposal = looked.snapshot, looked.eligible, looked
        skip = excluded_positions(snapshot, request.exclude)
        everyone = [(p, tier.rank) for tier in eligible.tiers for p in tier.positions if p not in skip]
        for start in range(0, max(len(everyone), 1), PAGE):
            page = everyone[start : start + PAGE]
            candidates = Candidates([p for p, _ in page], [rank for _, rank in page])
            last = start + PAGE >= len(everyone)
            proposal = await self._claim(request, snapshot, eligible, candidates, look=False, last=last)
            if not (isinstance(proposal.answer, Again) and proposal.answer.why == "page"):
                break
        return proposal

    def _refusal(self, request: JobRequest, answer: Refused) -> Refusal:
        found = self._breakdown(request)
        refusal = answer.refusal or found.refusal
        early = refusal is RefusalClass.IMPOSSIBLE and self._mirror.epoch_is_new
        if early:
            refusal = RefusalClass.UNAVAILABLE
        reasons = found.reasons
        if refusal is RefusalClass.QUOTA and found.free:
            # what keeps away the nodes that could take it
            reasons = {**reasons, Reason.QUOTA: found.free}
        return Refusal(refusal, reasons, self._mirror.age_ms, RETRY_AFTER_MS[refusal], early)

    def _breakdown(self, request: JobRequest) -> Breakdown:
        """Counted once for each demand and snapshot, however many are refused."""
        snapshot = self._mirror.snapshot
        if self._counted[0] is not snapshot:
            self._counted = (snapshot, {})
        key = (request.demand, request.exclude)
        found = self._counted[1].get(key)
        if found is None:
            current = self._compiled.get(snapshot, request.demand)
            found = breakdown(snapshot, current, request.exclude)
            if len(self._counted[1]) < 256:
                self._counted[1][key] = found
        return found


def _regret(proposal: _Proposal, answer: Placed) -> float:
    """What keeping off the session's last node or a stale shortlist cost in balance; a pool that packs wants none.

    0 on the session's own node: there Redis looks at no shortlist.
    """
    pool = proposal.snapshot.pools.get(answer.placement.pool)
    if answer.load == 0 or pool is None or pool.strategy == "pack":
        return 0.0
    pairs = zip(proposal.nodes, answer.used, strict=False)
    loads = [used / node.slots for node, used in pairs if used >= 0]
    return max(answer.load - min(loads, default=answer.load), 0.0)
