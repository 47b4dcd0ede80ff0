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
        self._writers: list[asyncio.StreamWriter] = []

    def losing(self, word: str, times: int = 1) -> None:
        # as the protocol writes the first word of an array
        self.lose, self.times = b"$%d\r\n%s\r\n" % (len(word), word.encode()), times

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
            try:
                while chunk := await source.read(65_536):
                    if replies and self.times > 0 and self.lose is not None and self.lose in chunk:
                        self.times -= 1
                        break
                    sink.write(chunk)
                    await sink.drain()
            except OSError:
                pass
            finally:
                writer.close()
                far_writer.close()

        await asyncio.gather(pump(reader, far_writer, replies=False), pump(far_reader, writer, replies=True))

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    relay = Relay(port)
    listening = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        listening.close()
        await relay.close()
        await asyncio.wait_for(listening.wait_closed(), 5)
