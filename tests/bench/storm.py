"""Many nodes in one process: `python -m tests.bench.storm PORT COUNT`; each line on stdin begins a step.

A node is one connection that registers and then sends heartbeats when told, as fast as the server answers them.
Each step is answered by a line on stdout: the seconds until the last node was answered.
"""

import asyncio
import resource
import sys
import time
from typing import Any

from redis.asyncio.connection import Connection

SHARD = "fleet:{0}"
PERIOD_S, STEADY_S = 1.0, 5.0


class Node:
    def __init__(self, port: int, number: int) -> None:
        # nothing beside the call itself
        self._connection = Connection(host="127.0.0.1", port=port, socket_timeout=60, driver_info=None)
        self._id = f"storm-{number}"
        self._incarnation = ""

    async def _call(self, function: str, *arguments: str) -> list[Any]:
        await self._connection.send_command("FCALL", f"fleet1_{function}", "1", SHARD, self._id, *arguments)
        answer = await self._connection.read_response()
        return [part.decode() if isinstance(part, bytes) else part for part in answer]

    async def register(self) -> None:
        fields = ("endpoint", f"http://{self._id}", "slots", "4", "capabilities", "work gpu asr:zh", "cpu", "1")
        word, self._incarnation, *_ = await self._call("node_register", *fields, "ttl_ms", "60000")
        assert word == "registered"

    async def beat(self) -> None:
        assert (await self._call("node_heartbeat", self._incarnation, "cpu", "1", "mem", "1"))[0] == "ok"

    async def steady(self, offset_s: float) -> None:
        end = time.monotonic() + STEADY_S
        await asyncio.sleep(offset_s)
        while time.monotonic() < end:
            await self.beat()
            await asyncio.sleep(PERIOD_S)

    async def close(self) -> None:
        await self._connection.disconnect()


async def main(port: int, count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 100)), hard))
    nodes = [Node(port, number) for number in range(count)]
    loop = asyncio.get_running_loop()
    print("here", flush=True)
    while step := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        started = time.monotonic()
        match step:
            case "register":
                await asyncio.gather(*(node.register() for node in nodes))
            case "beat":
                await asyncio.gather(*(node.beat() for node in nodes))
            case _:
                await asyncio.gather(*(node.steady(PERIOD_S * i / count) for i, node in enumerate(nodes)))
        print(f"{time.monotonic() - started:.3f}", flush=True)
    await asyncio.gather(*(node.close() for node in nodes))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
