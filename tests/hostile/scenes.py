"""The scenes of hostile traffic and what must be true of each."""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from scheduler.dev.process import spawn_bound, stop
from tests.hostile.honest import Calm, Honest
from tests.hostile.stage import Stage, attacked, calmed

ROOT = Path(__file__).parents[2]
# A replica under attack may hold so much more than before: 8,192 connections with what each may leave in it.
MEMORY_MAX = 320 * 1024 * 1024
# What replicas open and close beside the connections of clients.
FILES_BESIDE = 64
RATIO_MAX = 2.0


@dataclass(frozen=True)
class Scene:
    """How many connections attack, and how old one of them may become through a way that bounds it."""

    connections: int
    oldest_s: dict[str, float] = field(default_factory=dict)


# FLEET_ARRIVAL_MS is 10 s, looked at each second, and so is nginx's time for a head. nginx waits for a body as long
# as something comes. The rest is for the attackers, who share the machine.
SCENES = {
    "slow-heads": Scene(500, {"direct": 14.0, "nginx": 14.0}),
    "slow-bodies": Scene(500, {"direct": 14.0}),
    "idle": Scene(10_000),
    "malformed": Scene(20),
    "oversized": Scene(20),
    "unread": Scene(200),
}


@dataclass
class Verdict:
    """What was seen of a scene, in pairs: quiet and under attack."""

    way: str
    scene: Scene
    pairs: list[tuple[Calm, Calm]] = field(default_factory=list)
    told: list[dict[str, float]] = field(default_factory=list)
    memory: int = 0
    let_go: bool = True

    def ratio(self) -> float:
        """The median of the pairs' ratios of the p99."""
        return statistics.median(under.p(0.99) / quiet.p(0.99) for quiet, under in self.pairs)

    def faults(self) -> list[str]:
        """What must not be, apart from times."""
        faults = [f"an honest request failed: {said}" for pair in self.pairs for calm in pair for said in calm.failed]
        faults += ["honest clients were not served" for pair in self.pairs for calm in pair if not calm.took_s]
        if self.memory > MEMORY_MAX:
            faults.append(f"a replica grew by {self.memory / 2**20:.0f} MiB")
        if not self.let_go:
            faults.append("connections were not let go")
        most = self.scene.oldest_s.get(self.way)
        if most is not None and not self.told[-1]["ended_by_server"]:
            faults.append("no slow connection was ended")
        for told in self.told:
            if most is not None and told["oldest_s"] > most:
                faults.append(f"a connection lived for {told['oldest_s']:.1f} s")
            if told["opened"] < self.scene.connections * 0.9:
                faults.append(f"only {told['opened']:.0f} connections attacked")
        return faults

    def lines(self) -> list[str]:
        quiet, under = ([pair[at] for pair in self.pairs] for at in (0, 1))

        def told(calms: list[Calm]) -> str:
            middle = (statistics.median(calm.p(part) * 1_000 for calm in calms) for part in (0.5, 0.99))
            cores = statistics.median(calm.cores for calm in calms)
            return "p50 {:.1f} ms, p99 {:.1f} ms, {:.2f} cores".format(*middle, cores)

        calls = sum(len(calm.took_s) for calm in under)
        return [
            f"quiet {told(quiet)}; under attack {told(under)}, {calls} calls; the p99 grew {self.ratio():.2f} times",
            f"largest growth of a replica {self.memory / 2**20:.0f} MiB; attackers {self.told}",
        ]


async def play(
    stage: Stage, way: str, name: str, *, pairs: int, seconds: float, rate: float, scene: Scene | None = None
) -> Verdict:
    """Quiet and under attack in turns; the last attack goes on until its first connections are too old to be there.

    Raises TimeoutError where an attack does not get going.
    """
    scene = scene or SCENES[name]
    verdict, honest = Verdict(way, scene), Honest(f"http://127.0.0.1:{stage.port}", rate)

    async def measured() -> Calm:
        cpu_s, begun = stage.cpu_s(), time.monotonic()
        calm = await honest.run(seconds)
        calm.cores = (stage.cpu_s() - cpu_s) / (time.monotonic() - begun)
        return calm

    # connections to Redis and the like are there before anything is counted
    await honest.run(0.3)
    memory, files = stage.memory(), stage.files()
    for number in range(pairs):
        quiet = await measured()
        begun = time.monotonic()
        attacker = spawn_bound(attacked(name, stage.port, scene.connections), stdout=-1, cwd=ROOT)
        try:
            assert attacker.stdout is not None
            ready = asyncio.create_task(asyncio.to_thread(attacker.stdout.readline))
            await asyncio.wait_for(asyncio.shield(ready), 45)
            under = await measured()
            verdict.memory = max(verdict.memory, stage.memory() - memory)
            if number == pairs - 1 and (most := scene.oldest_s.get(way)):
                await asyncio.sleep(max(begun + most + 1 - time.monotonic(), 0))
            attacker.terminate()
            said, _ = await asyncio.to_thread(attacker.communicate, timeout=30)
            verdict.told.append(json.loads(said))
        finally:
            stop([attacker])
        verdict.pairs.append((quiet, under))
        verdict.let_go &= await asyncio.to_thread(calmed, stage, files + FILES_BESIDE, 30)
    return verdict
