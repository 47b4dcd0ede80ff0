"""The nodes of row g, in a process of its own: each sends a heartbeat a second, alone, as an agent does.

`python -m scheduler.bench.beating PORT NODES SECONDS`: heartbeats are spread over the second, on a few connections.
"""

import asyncio
import json
import sys
import time

import hiredis
import uvloop

from scheduler.bench.stage import P

CONNECTIONS = 20


def heartbeat(node: int, turn: int) -> bytes:
    """One call, with loads that are not those of the turn before."""
    loads = (
        f"{20 + (node + turn) % 400 / 10:.1f}",
        f"{(node + 7 * turn) % 800 / 10:.1f}",
        f"{40 + turn % 100 / 10:.1f}",
    )
    call = ("FCALL", "fleet1_node_heartbeat", "1", P, f"n{node:012}", "1")
    words = (*call, "cpu", loads[0], "gpu", loads[1], "mem", loads[2])
    return "".join((f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words))).encode()


async def beat(port: int, nodes: range, seconds: int, start: float) -> int:
    """Heartbeats of these nodes, each at its moment of each second; answers how many were taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    replies, taken = hiredis.Reader(), 0
    for turn in range(seconds):
        for i, node in enumerate(nodes):
            # a nap takes about a millisecond at least: one that is due sooner is sent now
            if (early := start + turn + i / len(nodes) - time.perf_counter()) > 0.001:
                await asyncio.sleep(early)
            writer.write(heartbeat(node, turn))
            while (reply := replies.gets()) is False:
                replies.feed(await reader.read(4_096))
            taken += isinstance(reply, list) and reply[0] == b"ok"
    writer.close()
    return taken


async def main() -> None:
    port, nodes, seconds = int(sys.argv[1]), int(sys.argv[2]), round(float(sys.argv[3]))
    start = time.perf_counter()
    beats = await asyncio.gather(
        *(beat(port, range(first, nodes, CONNECTIONS), seconds, start) for first in range(CONNECTIONS))
    )
    print(json.dumps({"beats": sum(beats), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    uvloop.run(main())
