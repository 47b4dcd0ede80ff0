"""The jobs that the claimers draw, and what is to become of each."""

import json
import random
from dataclasses import dataclass
from typing import Literal

from scheduler.domain.demand import Demand, demand_from_tokens
from scheduler.domain.ids import JobId, Tenant
from scheduler.domain.job import JobRequest

# finish: at once under the fence; drop: nobody ever does, so the lease ends by reaping; leave: to its node
Fate = Literal["finish", "fail", "drop", "cancel", "leave"]


@dataclass(frozen=True, slots=True)
class Drawn:
    request: JobRequest
    fate: Fate


class Draws:
    """Endless jobs of one tenant with ids of the client's own; the same seed draws the same ones."""

    def __init__(self, tenant: str, seed: int) -> None:
        self._tenant = Tenant(tenant)
        self._rng = random.Random(seed)
        self._drawn = 0
        self._any, self._sim, self._real = (
            demand_from_tokens([token], self._tenant) for token in ("any", "sim", "real")
        )

    def draw(self) -> Drawn:
        rng, kind = self._rng, self._rng.random()
        if kind < 0.92:
            fate: Fate = "fail" if rng.random() < 0.01 else "finish"
            return Drawn(self._direct(rng.choice((self._any, self._sim)), ack_ms=4_000), fate)
        if kind < 0.94:
            return Drawn(self._direct(self._any, ack_ms=rng.randrange(100, 1_500)), "drop")
        if kind < 0.955:
            return Drawn(self._direct(self._any, ack_ms=4_000), "cancel")
        if kind < 0.965:
            # served behind the back of its claimer, who does not look again
            return Drawn(self._direct(self._any, ack_ms=500, wait_ms=rng.randrange(50, 2_000)), "leave")
        return Drawn(self._inbox(), "cancel" if rng.random() < 0.1 else "leave")

    def _id(self) -> JobId:
        self._drawn += 1
        return JobId(f"{self._tenant}:{self._drawn}")

    def _direct(self, demand: Demand, *, ack_ms: int, wait_ms: int = 0) -> JobRequest:
        return JobRequest(self._id(), "direct", demand, deliver="direct", ack_ms=ack_ms, wait_ms=wait_ms)

    def _inbox(self) -> JobRequest:
        rng = self._rng
        asked = rng.choices(("ok", "fail", "stall"), (40, 1, 1))[0]
        return JobRequest(
            self._id(),
            "inbox",
            self._real,
            payload=json.dumps({"do": asked}),
            ack_ms=1_500,
            timeout_ms=300 if asked == "stall" else 3_000,
            wait_ms=rng.choice((0, rng.randrange(50, 4_000))),
            max_attempts=rng.choice((1, 3, 10)),
            retry_failed=rng.random() < 0.5,
        )
