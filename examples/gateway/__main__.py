"""Conversations with small stand-ins for models, through a gateway; one of the back ends is killed meanwhile."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from httpx_sse import aconnect_sse

from examples.gateway.backend import MODEL
from examples.gateway.gateway import create
from examples.stage import ENVIRON, server
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port

BACKENDS, CONVERSATIONS, TURNS, KILLED_AFTER = 3, 3, 4, 2
Processes = dict[str, "subprocess.Popen[bytes]"]


@contextmanager
def backends(redis_url: str) -> Iterator[Processes]:
    started: Processes = {}
    try:
        for i in range(1, BACKENDS + 1):
            argv = [sys.executable, "-m", "examples.gateway.backend", f"backend-{i}", str(free_port()), redis_url]
            started[f"backend-{i}"] = spawn_bound(argv, environ=ENVIRON)
        yield started
    finally:
        stop(list(started.values()))


async def until_ready(client: httpx.AsyncClient) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            if len((await client.get("/slots")).json()) == BACKENDS:
                return
        except (httpx.TransportError, ValueError):
            pass
        if time.monotonic() > end:
            raise TimeoutError("the back ends have not registered")
        await asyncio.sleep(0.05)


async def turn(client: httpx.AsyncClient, conversation: str, said: list[dict[str, str]]) -> str:
    """One message and its answer, token by token; answers which back end it came from."""
    body = {"model": MODEL, "stream": True, "messages": said}
    headers = {"x-conversation": conversation}
    tokens: list[str] = []
    async with aconnect_sse(client, "POST", "/v1/chat/completions", json=body, headers=headers) as source:
        source.response.raise_for_status()
        async for sse in source.aiter_sse():
            if sse.data == "[DONE]":
                break
            tokens.append(json.loads(sse.data)["choices"][0]["delta"].get("content", ""))
    node = source.response.headers["x-fleet-node"]
    said.append({"role": "assistant", "content": "".join(tokens).strip()})
    print(f"{conversation}  {node}  {said[-1]['content']}")
    return str(node)


async def talk(client: httpx.AsyncClient, processes: Processes) -> bool:
    routes: dict[str, list[str]] = {f"conversation-{i}": [] for i in range(1, CONVERSATIONS + 1)}
    said: dict[str, list[dict[str, str]]] = {name: [] for name in routes}
    killed = ""
    for number in range(1, TURNS + 1):
        if number == KILLED_AFTER + 1:
            killed = routes["conversation-1"][-1]
            print(f"-- {killed} is killed --")
            processes[killed].kill()
            processes[killed].wait(10)
        for name in routes:
            said[name].append({"role": "user", "content": f"question {number}"})
        nodes = await asyncio.gather(*(turn(client, name, said[name]) for name in routes))
        for name, node in zip(routes, nodes, strict=True):
            routes[name].append(node)
    before = all(len(set(route[:KILLED_AFTER])) == 1 for route in routes.values())
    after = all(
        len(set(route[KILLED_AFTER:])) == 1 and (route[-1] == route[0] or route[0] == killed)
        for route in routes.values()
    )
    elsewhere = all(killed not in route[KILLED_AFTER:] for route in routes.values())
    slots = await emptied(client)
    print(f"\neach conversation stayed on its back end: {'yes' if before and after else 'NO'}")
    print(f"those of {killed} went on elsewhere: {'yes' if elsewhere else 'NO'}")
    print(f"slots still taken: {slots}")
    return before and after and elsewhere and not any(slots.values())


async def emptied(client: httpx.AsyncClient) -> dict[str, int]:
    """The slots that are taken on what is left, once the ends of the last streams have been told."""
    end = time.monotonic() + 5
    while True:
        slots: dict[str, int] = (await client.get("/slots")).json()
        if not any(slots.values()) or time.monotonic() > end:
            return slots
        await asyncio.sleep(0.05)


async def run(redis_url: str, processes: Processes) -> bool:
    port = free_port()
    gateway = uvicorn.Server(uvicorn.Config(create(redis_url), port=port, log_level="warning"))
    serving = asyncio.create_task(gateway.serve())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            await until_ready(client)
            return await talk(client, processes)
    finally:
        gateway.should_exit = True
        await serving


def main() -> int:
    with server() as redis_url, backends(redis_url) as processes:
        return 0 if asyncio.run(run(redis_url, processes)) else 1


if __name__ == "__main__":
    sys.exit(main())
