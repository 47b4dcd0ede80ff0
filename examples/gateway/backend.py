"""A stand-in for a model server: streams tokens as OpenAI's API does, and is a node of the fleet.

Its agent only registers and heartbeats: jobs with `deliver: direct` come by HTTP.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scheduler.agent import Agent, Job, NodeConfig
from scheduler.domain.ids import NodeId, Token

MODEL, SLOTS = "tiny", 4


async def _never(job: Job) -> str:
    raise RuntimeError(f"{job.id} came by the inbox")


def _chunk(name: str, text: str | None) -> str:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if text is None else None}
    return json.dumps({"object": "chat.completion.chunk", "model": MODEL, "backend": name, "choices": [choice]})


def app(name: str, port: int, redis_url: str) -> Starlette:
    config = NodeConfig(
        id=NodeId(name),
        slots=SLOTS,
        capabilities=(Token(f"llm:{MODEL}"),),
        endpoint=f"http://127.0.0.1:{port}",
        # several are on one machine, whose load is not theirs
        cpu_max=100,
        gpu_max=100,
        mem_max=100,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        agent = Agent(config, _never, redis_url)
        running = asyncio.create_task(agent.run())
        yield
        agent.leave()
        await running

    async def complete(request: Request) -> Response:
        asked = await request.json()
        words = f"{name} heard {asked['messages'][-1]['content']} as message {len(asked['messages'])}".split()

        async def tokens() -> AsyncIterator[str]:
            for word in words:
                await asyncio.sleep(0.01)
                yield _chunk(name, f"{word} ")
            yield _chunk(name, None)
            yield "[DONE]"

        return EventSourceResponse(tokens())

    return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[1], int(sys.argv[2]), sys.argv[3]), port=int(sys.argv[2]), log_level="warning")
