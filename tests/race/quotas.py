"""Processes contend for the few slots that two tenants may occupy of a large fleet: never more, and all of them."""

import random

from tests.race.stage import Ask, Scene

BODY: dict[str, object] = {"requires": ["gpu"]}


def ask(rng: random.Random) -> Ask:
    return Ask(rng.choice(("acme", "other", "free")), BODY)


SCENE = Scene(
    title="quotas",
    nodes={f"n{i:02}": {"slots": 50, "capabilities": "gpu"} for i in range(20)},
    ask=ask,
    quotas={"acme": 3, "other": 1},
)
