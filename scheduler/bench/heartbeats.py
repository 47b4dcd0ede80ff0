"""Row g: heartbeats: how many a core of Redis takes, and what 10,000 nodes cost it at one a second each."""

import itertools
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec

from scheduler.bench.beating import heartbeat
from scheduler.bench.figures import Figure
from scheduler.bench.stage import HOUR_MS, P, Plan, Stage, staged
from scheduler.errors import NoServer

NODES, CONNECTIONS, PIPELINED = 10_000, 8, 16
OK = b"*2\r\n$2\r\nok\r\n:%d\r\n" % HOUR_MS


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
    """Heartbeats a second of Redis's processor, and by the clock on the wall; packed before, nodes in any order."""
    drawn = random.Random(1).sample(range(NODES), NODES)
    batches = [
        b"".join(heartbeat(node, turn) for node in drawn[start : start + PIPELINED])
        for turn in range(2)
        for start in range(0, NODES, PIPELINED)
    ]
    with ExitStack() as stack:
        address = ("127.0.0.1", stage.server.port)
        sockets = [stack.enter_context(socket.create_connection(address)) for _ in range(CONNECTIONS)]
        beats, before, begin = 0, spent(stage), time.perf_counter()
        packed = itertools.cycle(batches)
        while time.perf_counter() - begin < seconds:
            for connection in sockets:
                connection.sendall(next(packed))
            beats += sum(map(taken, sockets))
        wall = time.perf_counter() - begin
        return beats / (spent(stage) - before), beats / wall


def taken(connection: socket.socket) -> int:
    """Read the replies to one batch; all of them must be ok."""
    replies = b""
    while replies.count(b"\r\n") < PIPELINED * OK.count(b"\r\n"):
        replies += connection.recv(65_536)
    if replies != OK * PIPELINED:
        raise NoServer(f"heartbeats are not taken: {replies[:200]!r}")
    return PIPELINED


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
