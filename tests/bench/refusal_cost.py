"""What a refusal costs Redis at worst: 100,000 nodes, demands that no free node meets, every way to ask.

Prints, for each way, the worst time of one FCALL (INFO commandstats) and the commands that it made. Records, asserts
nothing: `python -m tests.bench.refusal_cost [--nodes 100000]`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import redis

from scheduler.dev.server import EmbeddedServer, choose_server
from scheduler.domain.demand import Demand
from scheduler.domain.ids import JobId, NodeId, Tenant, Token
from scheduler.domain.job import JobRequest
from scheduler.store.codec import Shortlist, pack_claim
from scheduler.store.library import read_library
from tests.lua.keyspace import P
from tests.lua.shard import Shard

PAGE, BATCH, HOUR_MS = 256, 16, 3_600_000
POOLS = {
    "gold": {"selector": {"labels": {"tier": "gold"}}, "tenants": ["acme"], "fallback": ["shared"], "priority": 9},
    "silver": {"selector": {"labels": {"tier": "silver"}}, "tenants": ["acme"], "fallback": ["shared"]},
    "shared": {"selector": {"labels": {"tier": "shared"}}},
}
# Share of the fleet by tokens, with its CPU: x* are above their limit and so never free.
# e and f are about as large as a look may be.
KINDS = (
    ("a", 0.34, 0),
    ("b", 0.34, 0),
    ("gpu", 0.051, 0),
    ("x1 x2", 0.2, 99),
    ("x3 x4", 0.02, 99),
    ("e", 0.024, 0),
    ("f", 0.024, 0),
    ("h", 0.0006, 0),
)
DEMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "a and b, disjoint halves": (("a", "b"),),
    "e and f, disjoint, at the bound": (("e", "f"),),
    "x1 and x2, 20 % offer both, none free": (("x1", "x2"),),
    "x3 and x4, 2 % offer both, none free": (("x3", "x4"),),
    "h, all excluded": (("h",),),
    "32 alternatives of large sets": tuple(("a", "b", f"no{i}") for i in range(32)),
    "32 alternatives, e and f among them": (*(("a", "b", f"no{i}") for i in range(31)), ("e", "f")),
}
Claims = list[bytes]


def seed(client: redis.Redis, count: int, *, pools: bool) -> dict[str, list[str]]:
    """An idle fleet; answers the nodes by their tokens."""
    client.flushdb()
    if pools:
        client.execute_command("FCALL", "fleet1_pools_apply", 1, P, 0, json.dumps({"pools": POOLS}))
    drawn = [(tokens, cpu) for tokens, share, cpu in KINDS for _ in range(round(count * share))]
    nodes: dict[str, list[str]] = {}
    for start in range(0, len(drawn), 1_000):
        with client.pipeline(transaction=False) as pipe:
            for i, (tokens, cpu) in enumerate(drawn[start : start + 1_000], start):
                tier = ("gold", "silver", "shared")[i % 3]
                fields = ("endpoint", f"http://n{i}", "slots", 4, "capabilities", tokens, "cpu", cpu)
                more = ("labels", f"tier={tier}", "ttl_ms", HOUR_MS)
                pipe.execute_command("FCALL", "fleet1_node_register", 1, P, f"n{i}", *fields, *more)
                nodes.setdefault(tokens, []).append(f"n{i}")
            pipe.execute()
    return nodes


def ways(
    shard: Shard, nodes: dict[str, list[str]], any_of: tuple[tuple[str, ...], ...]
) -> Iterator[tuple[str, Claims]]:
    """Each way that the protocol has to ask for one demand, as the claims of one call."""
    fresh, config = int(shard.meta("structure_version")), int(shard.meta("config_version"))
    exclude = frozenset(map(NodeId, nodes["h"])) if any_of == (("h",),) else frozenset[NodeId]()
    demand = Demand(tuple(frozenset(map(Token, tokens)) for tokens in any_of), Tenant("acme"))

    def claims(count: int, page: list[str], structures: list[str], versions: tuple[int, int], **flags: Any) -> Claims:
        shown = Shortlist(list(map(NodeId, page)), structures, [1] * len(page), *versions, **flags)
        return [pack_claim(JobRequest(JobId(f"j{i}"), "d", demand, exclude=exclude), shown) for i in range(count)]

    meets = " ".join(any_of[0]) in nodes
    page = nodes[" ".join(any_of[0]) if meets else any_of[0][0]][:PAGE]
    now = [shard.field(f"node:{node}", "structure") for node in page]
    old, known = ["1"] * len(page), (config, fresh)
    for count in (1, BATCH):
        yield f"{count:2} x not offered, fresh", claims(count, [], [], known, offered=False)
        yield f"{count:2} x not offered, stale structure", claims(count, [], [], (config, fresh - 1), offered=False)
        yield f"{count:2} x look by Redis", claims(count, [], [], known)
        yield f"{count:2} x 16 candidates, stale, then a look", claims(count, page[:16], old[:16], known)
        yield f"{count:2} x an empty last page", claims(count, [], [], known, look=False, last=True)
    # a call takes 512 nodes at most: two pages, or one and 15 shortlists
    looks, last = claims(BATCH, page[:16], old[:16], known)[1:], {"look": False, "last": True}
    for count in (1, 2):
        yield f"{count:2} x a page of 256, stale nodes", claims(count, page, old, known, **last)
        yield f"{count:2} x a page of 256, stale pools", claims(count, page, old, (0, fresh), look=False)
        if meets:
            yield f"{count:2} x a page of 256, as they are", claims(count, page, now, known, **last)
    yield "a stale page and 15 x 16 candidates, stale", [*claims(1, page, old, known, **last), *looks]


def spent(shard: Shard, claims: Claims) -> tuple[int, int, str]:
    """Microseconds of one FCALL, the commands inside it, and what it answered."""

    def stats() -> tuple[int, int]:
        info: Any = shard.client.info("commandstats")
        inner = sum(entry["calls"] for name, entry in info.items() if name not in {"cmdstat_fcall", "cmdstat_info"})
        return info.get("cmdstat_fcall", {"usec": 0})["usec"], inner

    before = stats()
    answers = shard.call("job_claim", *claims)[1:]
    after = stats()
    said = {answer[0] if answer[0] == b"placed" else b" ".join(answer[:2]) for answer in answers}
    return after[0] - before[0], after[1] - before[1], b", ".join(sorted(said)).decode()


def measure(client: redis.Redis, nodes: dict[str, list[str]], rounds: int) -> None:
    """A line for each way. A median shows the work; the worst shows the machine's other work, too."""
    shard, worst_of_all, worst_typical = Shard(client), (0, 0, ""), 0
    for title, any_of in DEMANDS.items():
        print(f"\n{title}")
        for way, claims in ways(shard, nodes, any_of):
            runs = [spent(shard, claims) for _ in range(rounds)]
            worst, commands, said = max(runs)
            typical = sorted(runs)[rounds // 2][0]
            worst_of_all = max(worst_of_all, (worst, typical, f"{title}: {way}"))
            worst_typical = max(worst_typical, typical)
            print(f"  {way:42} median {typical:6} µs  worst {worst:6} µs  {commands:5} commands  {said}")
    print(f"\nworst call {worst_of_all[0]} µs (median {worst_of_all[1]}; {worst_of_all[2]})")
    print(f"worst median {worst_typical} µs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    print(f"server: {choice.describe()}")
    with EmbeddedServer(choice) as server, redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        for pools in (False, True):
            started = time.monotonic()
            nodes = seed(client, options.nodes, pools=pools)
            seeded = sum(map(len, nodes.values()))
            title = "three pools with fallbacks" if pools else "one pool"
            print(f"\n{title}: {seeded:,} nodes, seeded in {time.monotonic() - started:.0f} s")
            measure(client, nodes, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
