"""Row g: heartbeats: how many a core of Redis takes, and what 10,000 nodes cost it at one a second each."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from scheduler.bench.claim import PIPELINED, rate
from scheduler.bench.figures import Figure
from scheduler.bench.stage import HOUR_MS, P, Plan, Stage, staged
from scheduler.errors import NoServer

NODES = 10_000
# redis-benchmark draws a node and loads anew each time; a load has many digits, but always other ones
_DRAWN = "__rand_int__"
_NODE, _CPU, _GPU = f"n{_DRAWN}", f"41.{_DRAWN}", f"7.{_DRAWN}"
_BEAT = ["FCALL", "fleet1_node_heartbeat", "1", P, _NODE, "1", "cpu", _CPU, "gpu", _GPU, "mem"]


class Beaten(msgspec.Struct, frozen=True):
    """What the process of the nodes says: heartbeats answered with ok, in so many seconds."""

    beats: int
    seconds: float


def seed(stage: Stage) -> None:
    """The fleet, each node under incarnation 1, because a drawn node cannot bring its own."""
    stage.clear()
    loads = ("cpu", "41.5", "gpu", "7.5", "mem", "63.5")
    offer = ("slots", 8, "ttl_ms", HOUR_MS, "capabilities", "gpu asr:zh nmt:zh>en tts:en", *loads)
    for start in range(0, NODES, 1_000):
        with stage.client.pipeline(transaction=False) as pipe:
            for i in range(start, start + 1_000):
                node = f"n{i:012}"
                pipe.execute_command("FCALL", "fleet1_node_register", 1, P, node, "endpoint", "http://n", *offer)
                pipe.hset(f"{P}:node:{node}", "incarnation", "1")
            pipe.execute()
    answer = stage.fcall("node_heartbeat", "n" + "0" * 12, 1, *loads)
    if answer[0] != b"ok":
        raise NoServer(f"a heartbeat is not taken: {answer!r}")


def spent(stage: Stage) -> float:
    """Seconds of a processor that the server has used."""
    told = stage.client.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def pipelined(stage: Stage, seconds: float) -> tuple[float, float]:
    """Heartbeats a second of Redis's processor, and by the clock on the wall."""
    stage.client.config_resetstat()
    before = spent(stage)
    wall = rate(stage, _BEAT, b"63.5", seconds, PIPELINED, drawn=NODES)
    used = spent(stage) - before
    told = stage.client.info("commandstats")
    calls, writes = told["cmdstat_fcall"], told["cmdstat_hset"]
    if calls["failed_calls"] or writes["calls"] < calls["calls"]:
        raise NoServer(f"heartbeats are not taken: {calls!r}, {writes!r}")
    return calls["calls"] / used, wall


def steady(stage: Stage, seconds: float) -> tuple[float, float]:
    """Per cent of a processor that Redis used, and heartbeats a second, while each node beats once a second."""
    argv = [sys.executable, "-m", "scheduler.bench.beating", str(stage.server.port), str(NODES), str(seconds)]
    before = spent(stage)
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=seconds + 60, check=True)
    used = spent(stage) - before
    said = msgspec.json.decode(done.stdout, type=Beaten)
    a_second = said.beats / said.seconds
    if a_second < 0.95 * NODES:
        raise NoServer(f"this machine sends {a_second:,.0f} heartbeats a second, not {NODES:,}")
    return 100 * used / said.seconds, a_second


def run(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        seed(stage)
        rates = [pipelined(stage, plan.seconds) for _ in range(plan.pairs)]
        yield Figure(
            row="g",
            what=f"heartbeats a core of Redis, pipelined by {PIPELINED}, {NODES:,} nodes",
            unit="/s",
            value=statistics.median(core for core, _ in rates),
            at_least=60_000,
            samples=[core for core, _ in rates],
            detail={"by the clock on the wall": statistics.median(wall for _, wall in rates)},
        )
        seconds = 2.0 if plan.quick else max(plan.seconds, 10.0)
        loads = [steady(stage, seconds) for _ in range(min(plan.pairs, 3))]
        yield Figure(
            row="g",
            what=f"Redis, {NODES:,} nodes with a heartbeat a second each",
            unit="%",
            value=statistics.median(load for load, _ in loads),
            at_most=20,
            samples=[load for load, _ in loads],
            detail={"heartbeats/s": statistics.median(beats for _, beats in loads)},
        )
