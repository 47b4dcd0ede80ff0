"""A relay between an agent and the server that loses a reply: the call was done, nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Loses each reply that begins with the word in `lose`, and the connection with it, as often as `times` says."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.lose: bytes | None = None
        self.times = 0
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    def losing(self, word: str, times: int = 1) -> None:
        # as the protocol writes the first word of an array
        self.lose, self.times = b"$%d\r\n%s\r\n" % (len(word), word.encode()), times

    def eats(self, chunk: bytes) -> bool:
        """Whether this reply is lost."""
        if self.times <= 0 or self.lose is None or self.lose not in chunk:
            return False
        self.times -= 1
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
            try:
                while chunk := await source.read(65_536):
                    if replies and self.eats(chunk):
                        break
                    sink.write(chunk)
                    await sink.drain()
            except OSError:
                pass
            finally:
                writer.close()
                far_writer.close()

        await asyncio.gather(pump(reader, far_writer, replies=False), pump(far_reader, writer, replies=True))
        self._writers -= {writer, far_writer}

    async def close(self) -> None:
        writers = list(self._writers)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    async with relaying(Relay(port)) as relay:
        yield relay


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[Relay]:
    listening = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        listening.close()
        await relay.close()
        await asyncio.wait_for(listening.wait_closed(), 5)
