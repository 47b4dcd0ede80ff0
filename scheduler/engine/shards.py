"""The shards of the fleet as a replica knows them, and which of them a request goes to."""

import random
from collections.abc import Iterator, Sequence

from scheduler.domain.ids import JobId, NodeId
from scheduler.domain.job import JobRequest
from scheduler.domain.shards import home_tag, job_tag, preference
from scheduler.engine.shard import Shard
from scheduler.errors import ServerUnavailable


class Shards:
    """A fixed set in the order of their tags; the first one has the configuration of all."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = tuple(shards)
        self._by_tag = {shard.tag: shard for shard in shards}
        self.tags = tuple(self._by_tag)
        self._rng = random.Random()

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def first(self) -> Shard:
        return self._shards[0]

    def tagged(self, tag: str) -> Shard:
        """The shard of this tag; ServerUnavailable where the fleet has none such, as another layout may have had."""
        if shard := self._by_tag.get(tag):
            return shard
        raise ServerUnavailable(f"this replica knows no shard {{{tag}}}")

    def of_node(self, node: NodeId) -> Shard:
        return self._by_tag[home_tag(self.tags, node)]

    def of_job(self, job: JobId) -> Shard:
        """Where the id leads."""
        return self._by_tag[job_tag(self.tags, job)]

    def order(self, request: JobRequest) -> list[Shard]:
        """The shards that may be asked, best first: one that has a free slot in the best pool, drawn in proportion to
        their free slots, or where the pool packs the fullest of them; then the others by the same rule.

        A session goes to the same shard in every replica, as long as that offers what is required.
        """
        asked = [(shard.room(request.demand), shard) for shard in self._shards if not shard.away]
        if request.session is not None and request.affinity != "none":
            session = f"{request.demand.tenant} {request.session}"
            asked.sort(key=lambda pair: (pair[0].rank > 0, preference(session, pair[1].tag)), reverse=True)
            return [shard for _, shard in asked]
        asked.sort(key=lambda pair: (pair[0].slots == 0, pair[0].rank == 0, pair[0].rank, -pair[0].slots))
        best = [(shard, room.slots) for room, shard in asked if room.slots and room.rank == asked[0][0].rank]
        if not best:
            return [shard for _, shard in asked]
        chosen = best[-1][0] if self._packs(request, best[-1][0]) else self._drawn(best)
        return [chosen, *(shard for _, shard in asked if shard is not chosen)]

    def _drawn(self, best: Sequence[tuple[Shard, int]]) -> Shard:
        return self._rng.choices([shard for shard, _ in best], [slots for _, slots in best])[0]

    def _packs(self, request: JobRequest, shard: Shard) -> bool:
        _, eligible = shard.dispatcher.eligible(request.demand)
        return bool(eligible.tiers) and eligible.tiers[0].strategy == "pack"
