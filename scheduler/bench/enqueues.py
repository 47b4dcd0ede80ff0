"""Row c: a placement, which is selection and claim, beside what users would otherwise call per job."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from scheduler.bench.figures import Figure, paired
from scheduler.bench.stage import Plan, Stage, staged
from scheduler.errors import NoServer

NODES = 1_000
SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """`call` is what it is asked to do per job; options go to its script behind address and seconds."""

    name: str
    call: str
    script: str
    at_least: float
    options: tuple[str, ...] = ()


# The best of the queues is the one that is beaten least: the target of each is that of the best.
PEERS = (
    Peer("saq", "enqueue", "with_saq.py", 2),
    Peer("arq", "enqueue", "with_arq.py", 2),
    Peer("taskiq", "enqueue", "with_taskiq.py", 2),
    Peer("dramatiq", "enqueue", "with_dramatiq.py", 2),
    Peer("rq", "enqueue", "with_rq.py", 2),
    Peer("Celery", "enqueue", "with_celery.py", 8),
    Peer("LiteLLM", "pick, shuffle", "with_litellm.py", 8, ("simple-shuffle",)),
    Peer("LiteLLM", "pick, least busy in Redis", "with_litellm.py", 8, ("least-busy",)),
)


class Rates(msgspec.Struct, frozen=True):
    """Calls a second by the clock on the wall, and by the processor time of the process."""

    per_second: float
    per_cpu_second: float


def rates(argv: list[str], seconds: float) -> Rates:
    """What the process says last; raises NoServer with its last words if it fails."""
    done = subprocess.run(argv, capture_output=True, timeout=seconds + 60, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NoServer(f"{Path(argv[1]).name} failed: {' '.join(last)}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Rates)


def beside(stage: Stage, plan: Plan, peer: Peer, python: Path) -> Figure:
    """One peer's line. The server is emptied before each sample, and gets its nodes anew for ours."""
    asked = (stage.server.url, str(plan.seconds))
    ours: list[float] = []
    theirs: list[float] = []

    def place() -> float:
        stage.clear()
        stage.seed(NODES)
        said = rates([sys.executable, "-m", "scheduler.bench.placing", *asked], plan.seconds)
        ours.append(said.per_cpu_second)
        return said.per_second

    def call() -> float:
        stage.clear()
        said = rates([str(python), str(SCRIPTS / peer.script), *asked, *peer.options], plan.seconds)
        theirs.append(said.per_cpu_second)
        return said.per_second

    what = f"placement ÷ {peer.name} {peer.call}"
    try:
        ratio = paired(place, call, plan.pairs)
    except (NoServer, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        return Figure(row="c", what=what, unit="x", at_least=peer.at_least, missing=f"not measured: {error}")
    return Figure(
        row="c",
        what=what,
        unit="x",
        value=ratio.value,
        at_least=peer.at_least,
        samples=ratio.samples,
        detail={
            "placements/s": ratio.subject,
            f"{peer.name}/s": ratio.baseline,
            "placements a CPU second": statistics.median(ours),
            f"{peer.name} a CPU second": statistics.median(theirs),
        },
    )


def run(plan: Plan) -> Iterator[Figure]:
    python = plan.peers_python
    if not python.exists():
        raise NoServer(f"the peers have no environment at {python}: `make bench` makes it")
    with staged(plan) as stage:
        for peer in PEERS:
            yield beside(stage, plan, peer, python)
