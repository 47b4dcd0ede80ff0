"""How a scheduler of a simulation speaks: shortlists go out, each a round trip, and true loads come back."""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from scheduler.sim.plan import SimPlan
from scheduler.sim.truth import Truth


@dataclass(frozen=True, slots=True)
class Answer:
    """The shortlist's true used slots before the claim, -1 for a full node, and the node that was taken."""

    used: Sequence[int]
    taken: int | None


# Yields shortlists until one is answered with a node; ends before that where it refuses.
Tries = Generator[Sequence[int], Answer, None]


class Replica(Protocol):
    """One replica under some policy: what it knows of the fleet, and how it places a job."""

    def refresh(self, truth: Truth) -> None: ...

    def tries(self, rng: random.Random) -> Tries: ...


class Opener(Protocol):
    """Makes all replicas of a run, which may share what none of them changes."""

    def __call__(self, plan: SimPlan, truth: Truth, rng: random.Random) -> list[Replica]: ...
