"""Processes contend for the last slots of a nearly full fleet: nothing is oversold, nothing refused in vain."""

import random

from tests.race.stage import Ask, Scene

ASK = Ask("default", {"requires": ["gpu"]})


def ask(_rng: random.Random) -> Ask:
    return ASK


SCENE = Scene(
    title="the last slots",
    nodes={f"n{i:02}": {"slots": 5, "capabilities": "gpu"} for i in range(20)},
    ask=ask,
    holds=((ASK, 92),),
)
