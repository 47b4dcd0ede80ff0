"""Row d: a whole claim with d = 3 inside Redis, beside SET, the cheapest write; driven by redis-benchmark."""

import re
import shutil
import statistics
import subprocess
from collections.abc import Iterator

import msgpack

from scheduler.bench.figures import Figure, paired
from scheduler.bench.stage import HOUR_MS, P, Plan, Stage, staged
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import JobRequest
from scheduler.errors import NoServer
from scheduler.http.wire import JobBody, demand_in
from scheduler.store.codec import Shortlist, pack_claim

NODES, CONNECTIONS, PIPELINED = 1_000, 50, 16
# redis-benchmark puts twelve digits in its place, up to NODES here, anew each time that it stands in a command
_DRAWN = "__rand_int__"
# long enough that nothing lapses, and of a size that is packed without a NUL
_ACK_MS = 50_000_000


def _claim(stage: Stage) -> bytes:
    """A claim whose job is new each time and whose three candidates are drawn from the whole fleet."""
    request = JobRequest(
        JobId(f"0.{_DRAWN * 3}"),
        "-",
        demand_in(JobBody(services=["asr", "nmt", "tts"], src="zh", tgt="en"), Tenant("default")),
        payload='{"text":"' + "x" * 88 + '"}',
        ack_ms=_ACK_MS,
    )
    config, structure = stage.client.hmget(P, "config_version", "structure_version")
    shortlist = Shortlist([NodeId(f"n{_DRAWN}")] * 3, ["1"] * 3, [1] * 3, int(config or 0), int(structure or 0))
    # short texts in msgpack's newer form: the older has a NUL, at which redis-benchmark would end the claim
    return msgpack.packb(msgpack.unpackb(pack_claim(request, shortlist)), use_bin_type=True)


def _seed(stage: Stage) -> None:
    stage.clear()
    offer = ("slots", 1_000_000, "ttl_ms", HOUR_MS, "capabilities", "gpu asr:zh nmt:zh>en tts:en")
    with stage.client.pipeline(transaction=False) as pipe:
        for i in range(NODES):
            pipe.execute_command("FCALL", "fleet1_node_register", 1, P, f"n{i:012}", "endpoint", "http://n", *offer)
            # one text for all, since a drawn candidate cannot carry its own: what a claim does with it is the same
            pipe.hset(f"{P}:node:n{i:012}", "structure", "1")
        pipe.execute()


def rate(stage: Stage, argv: list[str], last: bytes, seconds: float, pipelined: int = 1) -> float:
    """Calls a second, of as many as fit into about so many seconds."""
    tool = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if tool is None:
        raise NoServer("redis-benchmark is not on PATH (Debian: apt-get install redis-tools)")

    def run(calls: int) -> float:
        options = ("-p", stage.server.port, "-c", CONNECTIONS, "-P", pipelined, "-n", calls, "-r", NODES, "-q", "-x")
        said = subprocess.run(
            [tool, *map(str, options), *argv], input=last, stdout=subprocess.PIPE, timeout=600, check=True
        ).stdout.decode(errors="replace")
        found = re.findall(r"([\d.]+) requests per second", said)
        if not found:
            raise NoServer(f"redis-benchmark said: {said[-200:]}")
        return float(found[-1])

    return run(max(int(run(4_000) * seconds), 4_000))


def run(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        _seed(stage)
        claim = ["FCALL", "fleet1_job_claim", "1", P]
        packed = _claim(stage)
        answer = stage.fcall("job_claim", packed.replace(_DRAWN.encode(), b"0" * 12))
        if msgpack.unpackb(answer[1])[0][0] != "placed":
            raise NoServer(f"the claim is not placed: {answer!r}")

        def claims(pipelined: int = 1) -> float:
            _seed(stage)
            return rate(stage, claim, _claim(stage), plan.seconds, pipelined)

        ratio = paired(claims, lambda: rate(stage, ["SET", "key"], b"x" * 100, plan.seconds), plan.pairs)
        yield Figure(
            row="d",
            what=f"claim, d = 3, ÷ SET; {CONNECTIONS} connections, unpipelined",
            unit="x",
            value=ratio.value,
            at_least=0.25,
            samples=ratio.samples,
            detail={"claims/s": ratio.subject, "SET/s": ratio.baseline},
        )
        rates = [claims(PIPELINED) for _ in range(plan.pairs)]
        yield Figure(
            row="d",
            what=f"claims a second, pipelined by {PIPELINED}",
            unit="/s",
            value=statistics.median(rates),
            at_least=28_000,
            samples=rates,
        )
