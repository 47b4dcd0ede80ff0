"""The same contention while the pools change under it: no claim lands outside the pools of its very instant."""

import json
import random
import time
from collections import Counter
from multiprocessing.synchronize import Event as EventType
from typing import cast

import redis

from tests.race.audited import P
from tests.race.pools import OFFERS, POOLS, ask, nodes
from tests.race.stage import Scene, fcall

TIERS, NODES = tuple(POOLS), nodes(1)


def _drawn(rng: random.Random, name: str) -> dict[str, object]:
    """A pool with another selector, other tenants or other fallbacks; only gold and silver have fallbacks."""
    by_label, by_token = {"labels": {"tier": rng.choice(TIERS)}}, {"capabilities": [rng.choice(("gpu", "x", "y"))]}
    selector = rng.choice((by_label, by_token))
    tenants = rng.choice((["a"], ["b"], ["a", "b"], ["*"]))
    fallback = rng.choice(([], ["shared"])) if name != "shared" else []
    return {"selector": selector, "tenants": tenants, "fallback": fallback, "priority": rng.randrange(3)}


def _field(client: redis.Redis, key: str, name: str) -> str:
    return cast("bytes", client.hget(key, name)).decode()


def meddle(url: str, over: EventType) -> Counter[str]:
    """One change every few ms: a pool, a removal, the whole configuration, or a label that a heartbeat brings."""
    client, rng, done = redis.Redis.from_url(url), random.Random(1), Counter[str]()
    held = {name: _field(client, f"{P}:node:{name}", "incarnation") for name in NODES}
    while not over.is_set():
        kind, name = rng.choice(("put", "put", "remove", "apply", "label", "label")), rng.choice(TIERS)
        try:
            if kind == "put":
                fcall(client, "pool_put", name, json.dumps(_drawn(rng, name)))
            elif kind == "remove":
                fcall(client, "pool_remove", rng.choice(("gold", "silver")))
            elif kind == "apply":
                pools = {tier: _drawn(rng, tier) for tier in TIERS}
                fcall(client, "pools_apply", _field(client, P, "config_version"), json.dumps({"pools": pools}))
            else:
                node = rng.choice(list(held))
                words = ("labels", f"tier={name}", "capabilities", rng.choice(OFFERS))
                fcall(client, "node_heartbeat", node, held[node], *words)
            done[f"changes: {kind}"] += 1
        except redis.ResponseError as error:
            done[f"bad:change_refused_{kind}: {error}"] += 1
        time.sleep(rng.random() * 0.02)
    return done


SCENE = Scene(title="pools that change under load", nodes=NODES, ask=ask, pools=POOLS, meddle=meddle)
