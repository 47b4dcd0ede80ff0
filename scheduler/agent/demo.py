"""The demo handler: pretends to work for 50 to 200 ms."""

import asyncio
import json
import random

from scheduler.agent.job import Job


async def demo_handler(job: Job) -> str:
    worked_ms = random.randint(50, 200)
    await asyncio.sleep(worked_ms / 1000)
    return json.dumps({"worked_ms": worked_ms, "payload_bytes": len(job.payload)})
