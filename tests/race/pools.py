"""Two tenants contend for three pools whose nodes offer different things, at full load.

Gold serves tenant a, silver tenant b, shared both; gold and silver fall back to shared. Nothing is refused while an
eligible slot is free in any pool that the claim may use, and nothing lands outside these.
"""

import random

from tests.race.stage import Ask, Scene

TENANTS = {"gold": ("a",), "silver": ("b",), "shared": ("a", "b")}
POOLS: dict[str, dict[str, object]] = {
    "gold": {"selector": {"labels": {"tier": "gold"}}, "tenants": ["a"], "fallback": ["shared"], "priority": 10},
    "silver": {"selector": {"labels": {"tier": "silver"}}, "tenants": ["b"], "fallback": ["shared"], "priority": 10},
    "shared": {"selector": {"labels": {"tier": "shared"}}, "tenants": ["a", "b"], "strategy": "pack"},
}
OFFERS = ("gpu x", "gpu y", "gpu x y", "x y")
DEMANDS = (["gpu"], ["x"], ["y"], ["x", "y"], ["gpu", "x", "y"])


def nodes(slots: int) -> dict[str, dict[str, object]]:
    """Eight nodes in each pool, two of each kind."""
    return {
        f"{tier}-{i}": {"slots": slots, "capabilities": OFFERS[i % 4], "labels": f"tier={tier}"}
        for tier in POOLS
        for i in range(8)
    }


def ask(rng: random.Random) -> Ask:
    """Most name no pool; some their own, with its fallbacks or without; one in a hundred the other tenant's."""
    tenant = rng.choice("ab")
    own, other = ("gold", "silver") if tenant == "a" else ("silver", "gold")
    body: dict[str, object] = {"requires": rng.choice(DEMANDS)}
    kind = rng.random()
    if kind < 0.01:
        body["pool"] = other
    elif kind < 0.2:
        body |= {"pool": rng.choice((own, "shared")), "fallback": rng.random() < 0.5}
    if rng.random() < 0.1:
        body |= {"session": f"s{rng.randrange(20)}", "affinity": rng.choice(("sticky", "spread"))}
    return Ask(tenant, body)


def belongs(tenant: str, pool: str, node: str) -> bool:
    return tenant in TENANTS[pool] and node.startswith(f"{pool}-")


def _held(tenant: str, pool: str) -> Ask:
    return Ask(tenant, {"requires": ["x"], "pool": pool, "fallback": False})


SCENE = Scene(
    title="three pools, two tenants",
    nodes=nodes(3),
    ask=ask,
    pools=POOLS,
    # of 24 slots in each pool, 18 are on nodes that offer x
    holds=(
        (_held("a", "gold"), 16),
        (_held("b", "silver"), 16),
        (_held("a", "shared"), 8),
        (_held("b", "shared"), 8),
    ),
    belongs=belongs,
)
