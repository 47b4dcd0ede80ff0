"""A process that claims in batches and finishes what it got, on nodes of its own and on real ones.

A call whose reply was lost is repeated with the same ids until Redis has answered: that must be harmless.
"""

import asyncio
import random
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from redis.exceptions import ResponseError

from scheduler.agent.retrying import AWAY, insist
from scheduler.domain.ids import JobId, NodeId
from scheduler.domain.job import Placement
from scheduler.engine.mirror import Mirror
from scheduler.placement.eligible import Compiled
from scheduler.placement.select import select
from scheduler.store.client import connect
from scheduler.store.codec import Again, Answer, Crowded, Exists, Placed, Refused, Shortlist, Waiting
from scheduler.store.functions import CLAIMS_MAX, Functions
from scheduler.store.keys import shard_key
from tests.soak.draws import Drawn, Draws
from tests.soak.ledger import CANCELLED, CLAIMED, FINISHED, REFUSED, REFUSED_ONCE, SENT, WAITING, Ledger
from tests.soak.pipes import Call, called

TURNS, NODES, SLOTS = 4, 6, 8
BEAT_S, TTL_MS = 0.5, 3_000


class Claimer:
    """Claims until its budget is used or it is told to end; its nodes live on until it is killed."""

    def __init__(self, name: str, url: str, ledger: Path, budget: int) -> None:
        self.over = asyncio.Event()
        self._name, self._budget = name, budget
        self._rng = random.Random(name)
        self._draws = Draws(name, self._rng.randrange(1 << 30))
        self._ledger = Ledger(ledger)
        self._seen = self._ledger.counts
        self._functions = Functions(connect(url, connections=2 * TURNS + 4, timeout_ms=2_000), shard_key("fleet"))
        self._mirror = Mirror(self._functions, 200)
        self._compiled = Compiled()
        self._repeated: set[JobId] = set()

    async def run(self) -> None:
        aside = [asyncio.create_task(self._live(NodeId(f"{self._name}-{i}"))) for i in range(NODES)]
        aside += [asyncio.create_task(self._mirror.run()), asyncio.create_task(self._tell())]
        while not self._mirror.snapshot.nodes:
            await asyncio.sleep(0.1)
        await asyncio.gather(*(self._turns() for _ in range(TURNS)))
        self._ledger.tell(done=True)
        await asyncio.gather(aside[0])

    async def _tell(self) -> None:
        while not self.over.is_set():
            self._ledger.tell()
            await asyncio.sleep(1)

    async def _live(self, node: NodeId) -> None:
        """A node without a process of its own: what is claimed on it is finished by who claimed it."""
        incarnation: int | None = None
        while True:
            try:
                beat = incarnation and await self._functions.node_heartbeat(node, incarnation)
                if beat is None or isinstance(beat, str):
                    registered = await self._functions.node_register(
                        node, endpoint=f"http://{node}", slots=SLOTS, capabilities=("any", "sim"), ttl_ms=TTL_MS
                    )
                    incarnation = registered.incarnation
            except AWAY:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(BEAT_S)

    async def _turns(self) -> None:
        while not self.over.is_set() and self._seen["claims"] < self._budget:
            await self._turn()
        self.over.set()

    async def _turn(self) -> None:
        batch = [self._draws.draw() for _ in range(CLAIMS_MAX)]
        self._ledger.write([(SENT, *(drawn.request.id for drawn in batch))])
        answers = await self._decided(batch)
        self._acknowledged(batch, answers)
        calls = [call for drawn, answer in zip(batch, answers, strict=True) for call in self._calls(drawn, answer)]
        self._ended(calls, await called(self._functions, calls, self._seen) if calls else [])
        if self._rng.random() < 0.02:
            await self._claim_once_more(batch, answers)

    async def _decided(self, batch: list[Drawn]) -> list[Answer]:
        answers = await insist(lambda: self._claim(batch))
        for _ in range(10):
            left = [i for i, answer in enumerate(answers) if isinstance(answer, Again)]
            if not left:
                break
            once_more = [batch[i] for i in left]
            for i, answer in zip(left, await insist(partial(self._claim, once_more)), strict=True):
                answers[i] = answer
        self._seen["claims"] += len(batch)
        return answers

    async def _claim(self, batch: list[Drawn]) -> list[Answer]:
        pairs = [(drawn.request, self._shortlist(drawn)) for drawn in batch]
        self._seen["claim calls"] += 1
        try:
            return await self._functions.job_claim(pairs)
        except AWAY as error:
            self._seen[f"bad: {error}"] += isinstance(error.__cause__, ResponseError)
            self._seen["claim calls without a reply"] += 1
            self._repeated.update(drawn.request.id for drawn in batch)
            raise

    def _shortlist(self, drawn: Drawn) -> Shortlist:
        snapshot, request = self._mirror.snapshot, drawn.request
        eligible = self._compiled.get(snapshot, request.demand)
        drawn_from = select(snapshot, eligible, 3, request.exclude, self._rng)
        nodes = [snapshot.node(position) for position in drawn_from.positions]
        ids, structures = [node.id for node in nodes], [node.structure for node in nodes]
        return Shortlist(ids, structures, drawn_from.ranks, snapshot.config_version, snapshot.structure_version)

    def _acknowledged(self, batch: list[Drawn], answers: list[Answer]) -> None:
        lines: list[tuple[object, ...]] = []
        for drawn, answer in zip(batch, answers, strict=True):
            self._seen[answer if isinstance(answer, str) else type(answer).__name__.lower()] += 1
            if placement := _held(answer):
                lines.append((CLAIMED, drawn.request.id, placement.fence))
            elif isinstance(answer, Waiting | Exists):
                lines.append((WAITING, drawn.request.id))
            elif isinstance(answer, Refused | Crowded):
                lines.append((REFUSED if drawn.request.id in self._repeated else REFUSED_ONCE, drawn.request.id))
            self._seen["bad: a claim was answered as none of ours"] += isinstance(answer, str)
        self._ledger.write(lines)
        self._repeated.difference_update(drawn.request.id for drawn in batch)

    def _calls(self, drawn: Drawn, answer: Answer) -> list[Call]:
        job, rng, placement = drawn.request.id, self._rng, _held(answer)
        if drawn.fate == "cancel" and isinstance(answer, Placed | Exists | Waiting):
            return [("job_cancel", job)]
        if placement is None or drawn.fate not in {"finish", "fail"}:
            return []
        fence = placement.fence
        end: Call = ("job_finish", job, fence, "succeeded", f"{job} {fence}")
        if drawn.fate == "fail":
            end = ("job_finish", job, fence, "failed", "as drawn")
        before: list[Call] = [("job_start", job, fence)] if rng.random() < 0.05 else []
        stale: list[Call] = [("job_finish", job, fence - 1, "succeeded", "stale")] if rng.random() < 0.01 else []
        again: list[Call] = [("job_finish", job, fence, "succeeded", f"{job} {fence}")] if rng.random() < 0.01 else []
        return [*stale, *before, end, *again]

    def _ended(self, calls: list[Call], words: list[str]) -> None:
        lines: list[tuple[object, ...]] = []
        for (name, job, *rest), word in zip(calls, words, strict=True):
            self._seen[f"{name} {word}"] += 1
            if word == "finished":
                lines.append((FINISHED, job, *rest))
                self._seen["bad: a stale fence finished"] += rest[-1] == "stale"
            elif word == "cancelled":
                lines.append((CANCELLED, job))
            elif word not in {"running", "duplicate", "fenced"}:
                self._seen[f"bad: {name} answered {word}"] += 1
        self._ledger.write(lines)

    async def _claim_once_more(self, batch: list[Drawn], answers: list[Answer]) -> None:
        """A direct job that was placed has one attempt and one fence, however often it is claimed."""
        placed = [
            (drawn, answer.placement.fence)
            for drawn, answer in zip(batch, answers, strict=True)
            if isinstance(answer, Placed) and drawn.request.deliver == "direct"
        ]
        if not placed:
            return
        again: list[Any] = await insist(lambda: self._claim([drawn for drawn, _ in placed]))
        for (_, fence), answer in zip(placed, again, strict=True):
            same = isinstance(answer, Exists) and answer.placement.fence == fence
            self._seen["claimed again" if same else "bad: a repeated claim found something else"] += 1


def _held(answer: Answer) -> Placement | None:
    """The placement of an answer that names a node, or None."""
    return answer.placement if isinstance(answer, Placed | Exists) and answer.placement.fence else None


async def main(name: str, url: str, ledger: Path, budget: int) -> None:
    claimer = Claimer(name, url, ledger, budget)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, claimer.over.set)
    await claimer.run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
