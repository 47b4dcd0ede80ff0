"""Nodes of a failover: `python -m tests.failover.node URL COUNT SLOTS FILE`; FILE gets a line for each attempt."""

import asyncio
import random
import signal
import sys
from pathlib import Path

from scheduler.agent import Agent, NodeConfig
from scheduler.agent.job import Job
from scheduler.agent.meters import Meters
from scheduler.domain.ids import NodeId, Token


class _Idle(Meters):
    def read(self) -> dict[str, object]:
        return {"cpu": 1, "mem": 1, "gpu": 0}


async def main(url: str, count: int, slots: int, file: Path) -> None:
    with file.open("a", buffering=1) as begun:

        async def work(job: Job) -> str:
            begun.write(f"{job.id} {job.fence}\n")
            await asyncio.sleep(random.uniform(0.02, 0.2))
            return "done"

        agents = [
            Agent(NodeConfig(NodeId(f"node-{i}"), slots, (Token("work"),), drain_ms=500), work, url, meters=_Idle())
            for i in range(count)
        ]

        def leave() -> None:
            for agent in agents:
                agent.leave()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
        await asyncio.gather(*(agent.run() for agent in agents))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
