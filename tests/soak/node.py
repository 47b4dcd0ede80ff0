"""A process that is one real node: the Agent with a quick handler, its acknowledged finishes written down."""

import asyncio
import json
import logging
import random
import sys
from pathlib import Path
from typing import Literal

import uvloop

from scheduler.agent import Agent, Job, NodeConfig
from scheduler.domain.ids import Fence, JobId, NodeId, Token
from scheduler.domain.job import Outcome
from scheduler.store.functions import Functions
from tests.soak.ledger import FINISHED, Ledger

SLOTS = 12


class Told(Functions):
    """Writes down each finish that Redis acknowledged."""

    ledger: Ledger

    async def job_finish(
        self, job: JobId, fence: Fence, outcome: Outcome, result: str = ""
    ) -> Literal["finished", "duplicate", "fenced", "unknown"]:
        word = await super().job_finish(job, fence, outcome, result)
        if word == "finished":
            self.ledger.write([(FINISHED, job, fence, outcome, result)])
        return word


async def handler(job: Job) -> str:
    """Say which job under which fence; some fail, some are too slow for their time."""
    wanted = json.loads(job.payload or "{}").get("do")
    await asyncio.sleep(5 if wanted == "stall" else random.random() * 0.02)
    if wanted == "fail":
        raise ValueError("as asked")
    return f"{job.id} {job.fence}"


async def main(name: str, url: str, ledger: Path) -> None:
    config = NodeConfig(
        NodeId(name),
        SLOTS,
        (Token("any"), Token("real")),
        # this machine is meant to be busy
        cpu_max=100,
        gpu_max=100,
        mem_max=100,
        heartbeat_ms=400,
        ttl_ms=1_500,
    )
    agent = Agent(config, handler, url)
    told = Told(agent._hands._functions.client, agent._hands._functions.shard)
    told.ledger = Ledger(ledger)
    agent._hands._functions = told
    await agent.run()


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    uvloop.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
