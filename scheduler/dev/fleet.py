"""A demo fleet: nodes of several kinds in one process, and jobs that such nodes get."""

import asyncio
import random
import signal
from dataclasses import dataclass

from scheduler.agent import Agent, NodeConfig
from scheduler.agent.demo import demo_handler
from scheduler.agent.meters import Meters
from scheduler.domain.ids import NodeId, Token
from scheduler.domain.services import Asr, Nmt, Service, Tts


@dataclass(frozen=True, slots=True)
class NodeKind:
    """One kind of demo node; out of ten nodes, `share` are of it."""

    name: str
    share: int
    slots: int
    capabilities: str
    services: tuple[Service, ...] = ()


KINDS = (
    NodeKind("speech", 3, 4, "gpu", (Asr(("zh", "en")), Nmt("any_to_any", ("zh", "en")), Tts(("en", "zh")))),
    NodeKind("translate", 3, 6, "gpu", (Nmt("any_to_any", ("zh", "en", "de"), blocked=("de>zh",)),)),
    NodeKind("voice", 2, 3, "gpu tts:en tts:de"),
    NodeKind("llm", 2, 8, "gpu llm:qwen3-8b semantic:zh semantic:en"),
)
DEMANDS: tuple[dict[str, object], ...] = (
    {"requires": ["asr:zh"]},
    {"services": ["asr", "tts"], "src": "en-US", "tgt": "en-US"},
    {"services": ["asr", "nmt", "tts"], "src": "zh-CN", "tgt": "en"},
    {"services": ["nmt"], "src": "zh", "tgt": "en"},
    {"services": ["tts"], "tgt": "de"},
    {"requires": ["llm:qwen3-8b"]},
    {"requires": ["llm:qwen3-8b", "gpu"]},
)


class _SteadyMeters(Meters):
    """Two dozen nodes on one machine would all report its one load and cordon themselves by it."""

    def read(self) -> dict[str, object]:
        return {"cpu": random.randint(5, 60), "mem": random.randint(20, 70), "gpu": random.randint(5, 80)}


def demo_nodes(count: int) -> list[NodeConfig]:
    """Configurations of so many nodes, kinds mixed by their shares."""
    kinds = [kind for kind in KINDS for _ in range(kind.share)]
    random.Random(7).shuffle(kinds)
    return [
        NodeConfig(
            id=NodeId(f"{kinds[i % len(kinds)].name}-{i:02}"),
            slots=kinds[i % len(kinds)].slots,
            capabilities=tuple(map(Token, kinds[i % len(kinds)].capabilities.split())),
            services=kinds[i % len(kinds)].services,
            labels={"zone": "abc"[i % 3]},
            drain_ms=2_000,
        )
        for i in range(count)
    ]


async def run_nodes(count: int, redis_url: str, namespace: str) -> None:
    """Run the demo nodes until SIGTERM, then let them leave."""
    agents = [Agent(config, demo_handler, redis_url, namespace, _SteadyMeters()) for config in demo_nodes(count)]
    loop = asyncio.get_running_loop()

    def leave() -> None:
        for agent in agents:
            agent.leave()

    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, leave)
    await asyncio.gather(*(agent.run() for agent in agents))
