"""Several simulations for one answer: each policy, at each combination of the values that are tried."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from scheduler.sim.outcome import Outcome
from scheduler.sim.plan import SimPlan
from scheduler.sim.policies import POLICIES
from scheduler.sim.simulation import Simulation

Swept = Literal["nodes", "replicas", "refresh_ms", "d"]
SWEPT: tuple[Swept, ...] = ("nodes", "replicas", "refresh_ms", "d")
RUNS_MAX = 256


@dataclass(frozen=True, slots=True)
class Sweep:
    """A plan, and for some of its fields the values that are tried in its place."""

    plan: SimPlan
    policies: tuple[str, ...]
    values: dict[Swept, tuple[int, ...]]

    @property
    def plans(self) -> list[SimPlan]:
        names = [name for name in SWEPT if name in self.values]
        chosen = itertools.product(*(self.values[name] for name in names))
        return [self.plan.with_values(**dict(zip(names, values, strict=True))) for values in chosen]

    @property
    def runs(self) -> int:
        return len(self.plans) * len(self.policies)

    @property
    def varied(self) -> list[Swept]:
        """The fields that have several values, the one with the most of them first."""
        return sorted(
            (name for name in self.values if len(self.values[name]) > 1), key=lambda n: -len(self.values[n])
        )

    def run(self, progress: Callable[[str, int, int], None]) -> Iterator[Outcome]:
        """Outcomes as they come, all policies of a plan one after the other.

        What a value makes no difference to is not simulated again. Progress: the policy, jobs decided, jobs expected.
        """
        known: dict[tuple[str, SimPlan], Outcome] = {}
        for plan in self.plans:
            for policy in self.policies:
                told = _ignoring(policy, plan)
                if (policy, told) not in known:

                    def report(decided: int, policy: str = policy, expected: int = plan.expected) -> None:
                        progress(policy, decided, expected)

                    known[policy, told] = Simulation(told, policy, report).run()
                yield replace(known[policy, told], refresh_ms=plan.refresh_ms, d=plan.d)


def _ignoring(policy: str, plan: SimPlan) -> SimPlan:
    """The plan with the values that this policy does not use put to one and the same."""
    known = POLICIES[policy]
    return plan.with_values(d=plan.d if known.uses_d else 1, refresh_ms=plan.refresh_ms if known.refreshes else 1)


def label(outcome: Outcome, names: Sequence[Swept]) -> str:
    """The values of these fields, as a person reads them."""
    return ", ".join(f"{name.replace('_', ' ')} {getattr(outcome, name):,}" for name in names)
