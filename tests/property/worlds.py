"""Small worlds for the judge: fleets of a few unlike nodes, pools over them, and what is asked of them."""

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.lua.shard import Shard

NAMES = tuple(f"n{number}" for number in range(10))
OFFERS = (
    "gpu asr:zh",
    "gpu asr:zh tts:en",
    "asr:en semantic:zh",
    "semantic:zh semantic:en gpu",
    "tts:en semantic:en",
)
FAR = 10**15


class NodeWorld(NamedTuple):
    """One node; `fate`: alive, lapsed (not heard of, not yet reaped) or lost."""

    offers: str
    tier: str
    slots: int
    used: int
    cpu: int
    cpu_max: int | None
    mark: str
    quarantined: bool
    fate: str


class World(NamedTuple):
    nodes: dict[str, NodeWorld]
    config: dict[str, Any] | None


class Asked(NamedTuple):
    any_of: list[list[str]]
    tenant: str
    pool: str
    fallback: bool
    exclude: list[str]
    languages: list[str]
    form: dict[str, Any]

    def want(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "form"}

    def body(self) -> dict[str, Any] | None:
        """The demand as an HTTP body, where one can say it."""
        asks = self.form or ({"requires": self.any_of[0]} if len(self.any_of) == 1 and not self.languages else None)
        if asks is None:
            return None
        body = {**asks, "fallback": self.fallback, "exclude": self.exclude}
        return body | ({"pool": self.pool} if self.pool else {})

    def argv(self) -> list[str] | None:
        """The demand as options of `fleet explain`, where they can say it."""
        if (body := self.body()) is None:
            return None
        argv = ["--tenant", self.tenant, "--exclude", " ".join(self.exclude)]
        for name in ("requires", "services"):
            if name in body:
                argv += [f"--{name}", " ".join(body[name])]
        for name in ("src", "tgt", "pool"):
            if name in body:
                argv += [f"--{name}", body[name]]
        return argv if self.fallback else [*argv, "--no-fallback"]


def mostly(good: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from((good,) * len(others) + others)


NODES = st.builds(
    NodeWorld,
    offers=st.sampled_from(OFFERS),
    tier=st.sampled_from(("gold", "low", "none")),
    slots=st.integers(1, 3),
    used=st.sampled_from((0, 0, 1, 1, 2)),
    cpu=mostly(10, 10, 60, 90),
    cpu_max=st.sampled_from((None, None, 50, 95)),
    mark=mostly("", "", "", "cordon", "drain"),
    quarantined=mostly(False, False, False, True),
    fate=mostly("alive", "alive", "lapsed", "lost"),
)
SELECTORS = st.sampled_from(
    ({"all": True}, {"labels": {"tier": "gold"}}, {"labels": {"tier": "low"}},
     {"capabilities": ["gpu"]}, {"capabilities": ["asr"], "labels": {"tier": "none"}})
)  # fmt: skip
POOL = st.fixed_dictionaries(
    {
        "selector": SELECTORS,
        "tenants": st.sampled_from((["*"], ["a"], ["b"], ["a", "b"], ["*"])),
        "strategy": st.sampled_from(("spread", "pack")),
        "priority": st.integers(0, 1),
    },
    optional={"d": st.integers(1, 3)},
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    names = [f"p{number}" for number in range(draw(st.integers(1, 4)))]
    pools = {}
    for number, name in enumerate(names):
        later = names[number + 1 :]
        fallback = draw(st.lists(st.sampled_from(later), unique=True, max_size=2)) if later else []
        pools[name] = {**draw(POOL), "fallback": fallback}
    config: dict[str, Any] = {"pools": pools}
    if draw(st.booleans()):
        config["language_pools"] = {"priority": draw(st.integers(0, 2)), "max": draw(st.sampled_from((1, 50)))}
    if draw(st.booleans()):
        config["limits"] = {"cpu_max": draw(st.sampled_from((50, 95)))}
    return config


WORLDS = st.builds(World, st.dictionaries(st.sampled_from(NAMES), NODES, min_size=5), st.none() | configs())

FORMS = (
    ({"services": ["semantic"], "src": "zh", "tgt": "en"}, [["semantic:zh"]], ["en", "zh"]),
    ({"services": ["semantic"], "src": "zh"}, [["semantic:zh"]], ["zh"]),
)
TOKENS = st.lists(
    st.sampled_from(("gpu", "gpu", "asr", "asr:zh", "semantic", "tts:en", "other")), min_size=1, max_size=2
)


@st.composite
def demands(draw: st.DrawFn) -> Asked:
    form, any_of, languages = draw(st.sampled_from((*FORMS, ({}, [], []))))
    if not form:
        any_of = draw(st.lists(TOKENS.map(lambda tokens: sorted(set(tokens))), min_size=1, max_size=2))
        languages = draw(mostly([], ["zh"], ["en", "zh"]))
    return Asked(
        any_of=any_of,
        tenant=draw(st.sampled_from("ab")),
        pool=draw(mostly("", "", "p0", "p1", "p9")),
        fallback=draw(mostly(True, False)),
        exclude=draw(mostly([], ["n0", "n1", "n2"], ["n1", "n4", "n7", "n9"])),
        languages=languages,
        form=form,
    )


DEMANDS = demands()


def configure(shard: Shard, config: dict[str, Any] | None) -> None:
    if config is not None:
        assert shard.call("pools_apply", shard.meta("config_version"), json.dumps(config))[0] == b"applied"


def seed(shard: Shard, world: World) -> None:
    configure(shard, world.config)
    for name, node in world.nodes.items():
        become(shard, name, node, "")


def unsettle(shard: Shard, before: World, after: World) -> None:
    """The world moves on: nodes change and come, and last of all the configuration: no node has heard of it yet."""
    for name, node in after.nodes.items():
        known = before.nodes.get(name)
        become(
            shard,
            name,
            node,
            "" if known is None or known.fate == "lost" else shard.field(f"node:{name}", "incarnation"),
        )
    configure(shard, after.config)
    # P:free may hold more nodes than those that can take a job: a claim must not believe it of a full one
    for name, node in after.nodes.items():
        if node.used >= node.slots and node.fate == "alive":
            shard.client.sadd(f"{shard.key}:free", name)


def become(shard: Shard, name: str, node: NodeWorld, incarnation: str) -> None:
    """Bring a node into its state: by a registration, or by a heartbeat of the incarnation that it has."""
    fields: dict[str, Any] = {"cpu": node.cpu, "labels": f"tier={node.tier}"}
    if not incarnation or shard.field(f"node:{name}", "state") == "lost":
        limits = {} if node.cpu_max is None else {"cpu_max": node.cpu_max}
        incarnation = shard.register(name, node.offers, node.slots, ttl_ms=3_600_000, **fields, **limits)
    client = shard.client
    client.delete(f"{shard.key}:node:{name}:leases")
    for number in range(node.used):
        client.zadd(f"{shard.key}:node:{name}:leases", {f"held{number}": FAR})
    quarantine(shard, name, on=node.quarantined)
    words = [str(word) for pair in fields.items() for word in pair]
    shard.call("node_heartbeat", name, incarnation, "slots", node.slots, "capabilities", node.offers, *words)
    shard.call("node_mark", name, node.mark or "uncordon")
    if node.quarantined:
        quarantine(shard, name, on=True)
        shard.call("node_heartbeat", name, incarnation)
    if node.fate != "alive":
        client.zadd(f"{shard.key}:nodes", {name: 1})
    if node.fate == "lost":
        shard.call("reap")


def quarantine(shard: Shard, name: str, *, on: bool) -> None:
    """As node_blame leaves it, but for the score."""
    if on:
        shard.client.hset(f"{shard.key}:node:{name}", "quarantined_until_ms", FAR)
        shard.client.zadd(f"{shard.key}:quarantined", {name: FAR})
    else:
        shard.client.hdel(f"{shard.key}:node:{name}", "quarantined_until_ms")
        shard.client.zrem(f"{shard.key}:quarantined", name)
    version = shard.client.hincrby(shard.key, "version", 1)
    shard.client.zadd(f"{shard.key}:changed", {name: version})


def _node(offers: str, tier: str = "low", *, used: int = 0, slots: int = 3, fate: str = "alive") -> NodeWorld:
    return NodeWorld(offers, tier, slots, used, 10, None, "", quarantined=False, fate=fate)


def _asked(*any_of: str) -> Asked:
    return Asked([tokens.split() for tokens in any_of], "a", "", fallback=True, exclude=[], languages=[], form={})


_TIERS = {
    "pools": {
        "p0": {"selector": {"labels": {"tier": "gold"}}, "priority": 1},
        "p1": {"selector": {"labels": {"tier": "low"}}},
    }
}
_CROWD = {name: _node("tts:en semantic:en") for name in NAMES[1:]}
_STALE = World(_CROWD, _TIERS)
# What chance seldom meets: a node that the snapshot does not know, among many, is found by Redis's own look only.
CORNERS: tuple[tuple[World, World, list[Asked]], ...] = (
    # in the second pool
    (
        _STALE,
        World({"n0": _node("gpu asr:zh"), "n1": _node("tts:en semantic:en", "gold")}, _TIERS),
        [_asked("gpu")] * 8,
    ),
    # by the second alternative
    (_STALE, World({"n0": _node("gpu asr:zh")}, _TIERS), [_asked("other", "gpu")] * 8),
    # in the first pool, though fuller than the one of the second pool that the snapshot proposes
    (
        World({"n1": _node("gpu asr:zh"), "n2": _node("gpu asr:zh")}, _TIERS),
        World({"n0": _node("gpu asr:zh", "gold", used=2)}, _TIERS),
        [_asked("gpu")] * 8,
    ),
    # nowhere: the node that the snapshot proposes has lapsed, or its pools are others since a moment ago
    (
        World({"n0": _node("gpu asr:zh")}, None),
        World({"n0": _node("gpu asr:zh", fate="lapsed")}, None),
        [_asked("gpu")] * 2,
    ),
    (
        World({"n0": _node("gpu asr:zh", "gold")}, _TIERS),
        World(
            {},
            {
                "pools": {
                    "p0": {"selector": {"labels": {"tier": "low"}}, "priority": 1},
                    "p1": {"selector": {"labels": {"tier": "gold"}}, "tenants": ["b"]},
                }
            },
        ),
        [_asked("gpu")] * 2,
    ),
    # over its limits, and nothing else
    (
        World({"n0": _node("gpu asr:zh")._replace(cpu=90)}, None),
        World({"n0": _node("gpu asr:zh")._replace(cpu=90)}, None),
        [_asked("gpu")] * 2,
    ),
    # full, and lapsed: that it will be free does not help
    (
        World({"n0": _node("gpu asr:zh", used=3)}, None),
        World({"n0": _node("gpu asr:zh", used=3, fate="lapsed")}, None),
        [_asked("gpu")] * 2,
    ),
)
