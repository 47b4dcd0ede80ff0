"""A replica that is killed at one step of a move. `python -m tests.integration.engine.dying URL STEP JOB`.

It places JOB, or without one moves what waits, and ends with SIGKILL just before or after the step's call to Redis.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, Tenant
from scheduler.domain.job import JobRequest
from scheduler.engine.engine import Engine
from scheduler.settings import Settings
from scheduler.store.moves import Moves

STEPS = {
    "hold": "fleet1_job_claim",
    "note": "fleet1_job_move",
    "take": "fleet1_job_claim",
    "settle": "fleet1_job_settle",
}


def dying(step: str, moment: str) -> None:
    """From now on the call of that step is this process's last."""
    called = Moves._call

    async def call(self: Moves, name: str, *args: Any) -> list[Any]:
        here = f"fleet1_{name}" == STEPS[step]
        if here and name == "job_claim":
            packed = b" ".join(arg for arg in args if isinstance(arg, bytes))
            here = b"hold" in packed and (b"hold_ms" in packed) == (step == "hold")
        if here and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await called(self, name, *args)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Moves._call = call  # type: ignore[method-assign, assignment]


async def main(url: str, step: str, moment: str, job: str) -> None:
    engine = Engine(Settings(redis_url=url, refresh_ms=50, reap_ms=50))
    dying(step, moment)
    await engine.start()
    while engine.obstacle() is not None:
        await asyncio.sleep(0.01)
    if job:
        demand = demand_from_tokens(["gpu"], Tenant("default"))
        await engine.place(JobRequest(JobId(job), "digest", demand, ack_ms=600_000))
    await asyncio.sleep(5)
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
