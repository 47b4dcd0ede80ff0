"""The policies that a simulation sets side by side."""

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.sim.cached import (
    SAMPLE,
    at_random,
    better_of_two,
    in_turn,
    least_loaded,
    open_omniscient,
    opener,
    sampled,
)
from scheduler.sim.ours import open_ours
from scheduler.sim.tries import Opener
from scheduler.sim.truth import Truth


@dataclass(frozen=True, slots=True)
class Policy:
    """`look` finds a node by the true state, in the same round trip, where the shortlist has none.

    `refreshes` and `uses_d`: whether the refresh period or d make any difference to it.
    """

    says: str
    opened: Opener
    look: Callable[[Truth], int | None] | None = None
    refreshes: bool = True
    uses_d: bool = False


POLICIES: dict[str, Policy] = {
    "ours": Policy("d candidates compared at the truth, then a look", open_ours, Truth.look, uses_d=True),
    "random": Policy("any node", opener(at_random, sees=False), refreshes=False),
    "round-robin": Policy("each node in turn", opener(in_turn, sees=False), refreshes=False),
    "least-loaded": Policy("the least loaded on the cache", opener(least_loaded)),
    "two-choices": Policy("the better of two on the cache", opener(better_of_two)),
    "sample-20": Policy("20 that seem free, one by one", opener(sampled, most=SAMPLE)),
    "omniscient": Policy("the least loaded of all, at no cost", open_omniscient, Truth.emptiest, refreshes=False),
}
