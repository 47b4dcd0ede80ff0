"""Which claims share a call: as many as fit, oldest first, within what a call may show."""

import asyncio
from collections.abc import Sequence
from typing import cast

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import JobRequest
from scheduler.engine.batch import ClaimBatcher
from scheduler.store.codec import Again, Answer, Shortlist
from scheduler.store.functions import CLAIMS_MAX, NODES_MAX, Functions

DEMAND = demand_from_tokens(["gpu"], Tenant("acme"))


class Recorder:
    """In place of the typed calls: remembers how many nodes each claim of each call showed."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    async def job_claim(self, claims: Sequence[tuple[JobRequest, Shortlist]]) -> list[Answer]:
        self.calls.append([len(shortlist.nodes) for _, shortlist in claims])
        return [Again("page", []) for _ in claims]


async def sent(*shown: int, cancelled: int = 0) -> list[list[int]]:
    """What goes out in which call when claims that show so many nodes come in one turn."""
    recorder = Recorder()
    batcher = ClaimBatcher(cast("Functions", recorder))
    waiting = []
    for i, count in enumerate(shown):
        request = JobRequest(JobId(f"j{i}"), "d", DEMAND)
        shortlist = Shortlist([NodeId("n")] * count, ["1"] * count, [1] * count, 0, 0)
        waiting.append(asyncio.ensure_future(batcher.claim(request, shortlist)))
    # all are in the queue, none is sent yet
    await asyncio.sleep(0)
    for claim in waiting[:cancelled]:
        claim.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return recorder.calls


async def test_claims_of_one_turn_share_a_call_up_to_sixteen() -> None:
    assert await sent(*[3] * 20) == [[3] * CLAIMS_MAX, [3] * 4]


async def test_pages_share_a_call_only_up_to_what_it_may_show() -> None:
    calls = await sent(256, 256, 256, 3, 16, 512, 1)
    assert calls == [[256, 256], [256, 3, 16], [512], [1]]
    assert all(sum(call) <= NODES_MAX for call in calls)


async def test_a_claim_whose_caller_has_gone_takes_no_room() -> None:
    assert await sent(512, 300, 200, cancelled=1) == [[300, 200]]
