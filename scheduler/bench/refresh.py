"""Row f: what the mirror costs at 100,000 nodes: a full fill, a refresh, its memory, and the demands that follow."""

import asyncio
import gc
import itertools
import statistics
import time
import tracemalloc
from collections.abc import Iterator

from scheduler.bench.figures import Figure
from scheduler.bench.selection import LARGE, unlike
from scheduler.bench.stage import LANGUAGES, P, Plan, Stage, staged
from scheduler.domain.demand import Demand, demand_from_tokens
from scheduler.domain.ids import Tenant
from scheduler.engine.mirror import Mirror
from scheduler.placement.eligible import Compiled
from scheduler.store.client import connect
from scheduler.store.functions import Functions

DEMANDS, REFRESH_MS, SLOW_US = 250, 200, 5_000


def demands() -> list[Demand]:
    """So many live demands, from common ones to such as no node meets."""
    tokens = [*(f"{kind}:{code}" for kind in ("asr", "tts", "semantic") for code in LANGUAGES), "gpu", "llm:qwen3-8b"]
    pairs = itertools.islice(itertools.combinations(tokens, 2), DEMANDS)
    return [demand_from_tokens(pair, Tenant("default")) for pair in pairs]


def _change(stage: Stage, count: int, turn: int, *, structure: bool) -> None:
    """Change one node in a hundred: what it offers, or whether it takes jobs."""
    step = max(count // 100, 1)
    with stage.client.pipeline(transaction=False) as pipe:
        for at in range(step):
            name, i = f"n{at * 100 + turn}", at * 100 + turn
            if structure:
                incarnation = stage.client.hget(f"{P}:node:{name}", "incarnation") or b""
                offer = f"{unlike(i + 1)} fresh:t{turn}"
                pipe.execute_command("FCALL", "fleet1_node_heartbeat", 1, P, name, incarnation, "capabilities", offer)
            else:
                mark = "uncordon" if turn % 2 else "cordon"
                pipe.execute_command("FCALL", "fleet1_node_mark", 1, P, f"n{at * 100}", mark)
        pipe.execute()


async def _figures(stage: Stage, count: int, rounds: int) -> Iterator[Figure]:
    client = connect(stage.server.url, timeout_ms=10_000)
    functions = Functions(client, P)

    async def filled() -> tuple[Mirror, float]:
        mirror, started = Mirror(functions, REFRESH_MS), time.perf_counter()
        await mirror.refresh()
        return mirror, time.perf_counter() - started

    async def refreshed(mirror: Mirror) -> float:
        started = time.perf_counter()
        await mirror.refresh()
        return time.perf_counter() - started

    fills, refreshes, ratios, follows = [], [], [], []
    compiled, live = Compiled(), demands()
    for turn in range(rounds):
        mirror, fill = await filled()
        _change(stage, count, turn, structure=False)
        refresh = await refreshed(mirror)
        for demand in live:
            compiled.get(mirror.snapshot, demand)
        _change(stage, count, turn, structure=True)
        await refreshed(mirror)
        started = time.perf_counter()
        for demand in live:
            compiled.get(mirror.snapshot, demand)
        follows.append((time.perf_counter() - started) * 1_000)
        fills.append(fill)
        refreshes.append(refresh)
        ratios.append(refresh / fill)
        del mirror
    gc.collect()
    tracemalloc.start()
    mirror, _ = await filled()
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / len(mirror.snapshot.positions)
    tracemalloc.stop()
    await client.aclose()
    changed = max(count // 100, 1)
    slow = len(stage.client.slowlog_get(1_000))
    fill = statistics.median(fills)
    return iter([
        Figure(row="f", what=f"refresh with {changed:,} of {count:,} nodes changed ÷ full fill", unit="x",
               value=statistics.median(ratios), at_most=0.05, samples=ratios,
               detail={"refresh ms": statistics.median(refreshes) * 1_000}),
        Figure(row="f", what=f"full fill of {count:,} nodes", unit="s", value=fill, at_most=3, samples=fills),
        Figure(row="f", what="memory of the snapshot", unit="B a node", value=each, at_most=1_024),
        Figure(row="f", what="calls of more than 5 ms of Redis", unit="calls", value=slow, at_most=0),
        Figure(row="f", what=f"{changed:,} nodes of other capabilities, {DEMANDS} live demands follow", unit="ms",
               value=statistics.median(follows), at_most=REFRESH_MS / 5, samples=follows),
    ])  # fmt: skip


def run(plan: Plan) -> Iterator[Figure]:
    count = 10_000 if plan.quick else LARGE
    with staged(plan) as stage:
        stage.seed(count, slots=4, offer=unlike)
        stage.client.config_set("slowlog-log-slower-than", SLOW_US)
        stage.client.slowlog_reset()
        yield from asyncio.run(_figures(stage, count, plan.pairs))
