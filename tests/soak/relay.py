"""A process between some clients and Redis that eats one reply in twenty, and the connection with it."""

import asyncio
import random
import sys

import uvloop

from tests.integration.agent.lossy import Relay, relaying

EATEN = 0.05


class Eater(Relay):
    """The call was done, nobody is told; which ones is chance."""

    eaten = 0

    def eats(self, chunk: bytes) -> bool:
        eaten = bool(chunk) and random.random() < EATEN
        self.eaten += eaten
        return eaten


async def main(redis_port: int) -> None:
    """Print the address, then relay until killed."""
    async with relaying(Eater(redis_port)) as relay:
        print(relay.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
