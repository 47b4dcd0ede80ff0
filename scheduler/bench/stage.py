"""What benchmarks stand on: a private server with the library, a fleet of nodes that live, replicas."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, ServerChoice, free_port
from scheduler.errors import BadInput
from scheduler.store.library import read_library

P = "fleet:{0}"
HOUR_MS = 3_600_000
LANGUAGES = ("zh", "en", "de", "fr", "es", "ja", "ko", "ru", "ar", "pt")
# A job that nobody takes must not lapse while it is measured: reaping would be measured with it.
JOB: dict[str, object] = {
    "services": ["asr", "nmt", "tts"],
    "src": "zh",
    "tgt": "en",
    "payload": {"text": "x" * 88},
    "ack_ms": HOUR_MS,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure: pairs of a ratio, seconds of one sample, the server; `quick` is for a look, not for figures.

    `peers_python` is the interpreter of the environment that has the peers.
    """

    choice: ServerChoice
    pairs: int = 5
    seconds: float = 3.0
    quick: bool = False
    peers_python: Path = Path(sys.prefix) / "peers" / "bin" / "python"


def capabilities(i: int) -> str:
    """What node n<i> offers: of ten kinds of node, unlike in their languages; each third translates zh to en."""
    kind = i % 30 // 3
    if i % 3 == 0:
        return f"gpu asr:zh asr:{LANGUAGES[kind]} nmt:zh>en tts:en tts:{LANGUAGES[kind]}"
    if i % 3 == 1:
        return f"gpu asr:{LANGUAGES[kind]} semantic:{LANGUAGES[kind]}"
    return f"llm:qwen3-8b gpu tts:{LANGUAGES[kind]}"


@dataclass
class Stage:
    """A running server, empty but for the library. Replicas started here are stopped with it."""

    server: EmbeddedServer
    client: redis.Redis
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def fcall(self, name: str, *args: str | bytes | int) -> list[Any]:
        answer: list[Any] = self.client.execute_command("FCALL", f"fleet1_{name}", 1, P, *args)
        return answer

    def clear(self) -> None:
        self.client.flushall()

    def seed(self, count: int, slots: int = 1_000_000, offer: Callable[[int], str] = capabilities) -> None:
        """So many nodes n0, n1 … that live for an hour; `offer` says what each offers."""
        for start in range(0, count, 1_000):
            with self.client.pipeline(transaction=False) as pipe:
                for i in range(start, min(start + 1_000, count)):
                    fields = ("endpoint", f"http://10.0.0.1:{i}", "slots", slots, "ttl_ms", HOUR_MS)
                    more = ("capabilities", offer(i), "labels", f"zone={'abc'[i % 3]}", "cpu", i % 60)
                    pipe.execute_command("FCALL", "fleet1_node_register", 1, P, f"n{i}", *fields, *more)
                pipe.execute()

    def replicas(self, count: int = 1) -> list[str]:
        """Start replicas as `fleet serve` does; answers their addresses once all of them are ready."""
        ports = [free_port() for _ in range(count)]
        environ = {**os.environ, "REDIS_URL": self.server.url}
        for port in ports:
            argv = [sys.executable, "-m", "scheduler.cli.main", "serve", "--port", str(port)]
            self.children.append(spawn_bound(argv, environ=environ))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        asyncio.run(wait_ready(urls, 60))
        return urls

    def spawn(self, argv: Sequence[str], port: int) -> str:
        """Start another program of the benchmark that listens on this port, and wait until it does."""
        self.children.append(spawn_bound(argv))
        end = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            if time.monotonic() > end or self.children[-1].poll() is not None:
                raise TimeoutError(f"{argv[:4]} does not listen on port {port}")
            time.sleep(0.02)


@contextmanager
def staged(plan: Plan, *args: str) -> Iterator[Stage]:
    """A server for one row, gone with it; args go behind the server's own."""
    if plan.choice.binary is None:
        raise BadInput("REDIS_URL", "must be unset: benchmarks empty the server that they measure")
    with EmbeddedServer(plan.choice, args=args) as server, redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        stage = Stage(server, client)
        try:
            yield stage
        finally:
            stop(stage.children)
