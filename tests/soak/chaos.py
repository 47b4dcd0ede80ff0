"""The processes of the soak, and what befalls them: SIGKILL and a new start, SIGSTOP and SIGCONT, at random times."""

import heapq
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer

RESTART_DEADLINE_S = 120.0


@dataclass
class Cast:
    """Who takes part: each can be started again as it was. Their words go to a log beside the ledgers."""

    folder: Path
    lines: dict[str, tuple[list[str], dict[str, str]]] = field(default_factory=dict)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str, module: str, *args: object, **environ: str) -> None:
        self.lines[name] = ([sys.executable, "-m", module, *map(str, args)], environ)
        self.restart(name)

    def restart(self, name: str) -> None:
        argv, environ = self.lines[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = spawn_bound(argv, environ={**os.environ, **environ}, stdout=log, stderr=log)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.running[name].send_signal(number)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    def gone(self) -> list[str]:
        """Those that have ended though nobody killed them."""
        return [name for name, process in self.running.items() if process.poll() is not None]

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGCONT)
        stop(list(self.running.values()))


class Chaos:
    """Call `turn` often: it does what is due. `mend` brings everything back."""

    def __init__(self, cast: Cast, server: EmbeddedServer, seed: int) -> None:
        self.done = Counter[str]()
        self._cast, self._server, self._rng = cast, server, random.Random(seed)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._killed: set[str] = set()
        self._later(2, self._strike)
        self._later(self._rng.uniform(8, 16), self._kill_redis)

    def turn(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()

    def mend(self) -> None:
        os.kill(self._server.pid, signal.SIGCONT)
        for name in list(self._killed):
            self._revive(name)
        for name in self._cast.running:
            self._cast.signal(name, signal.SIGCONT)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))

    def _strike(self) -> None:
        """Something happens to one process; a claimer is never killed, for it keeps what it was told."""
        rng = self._rng
        self._later(rng.uniform(0.3, 3), self._strike)
        kind = rng.choices(("agent", "replica", "claimer", "redis"), (5, 3, 1, 1))[0]
        if kind == "redis":
            os.kill(self._server.pid, signal.SIGSTOP)
            self.done["redis stopped"] += 1
            time.sleep(rng.uniform(0.05, 1.5))
            os.kill(self._server.pid, signal.SIGCONT)
            return
        name = rng.choice([name for name in self._cast.running if name.startswith(kind)])
        if name in self._killed:
            return
        if kind != "claimer" and rng.random() < 0.6:
            self._cast.kill(name)
            self._killed.add(name)
            self.done[f"{kind}s killed"] += 1
            self._later(rng.uniform(0, 3), lambda: self._revive(name))
        else:
            self._cast.signal(name, signal.SIGSTOP)
            self.done[f"{kind}s stopped"] += 1
            # some shorter than the life of a node without a heartbeat, some longer
            self._later(rng.uniform(0.2, 5), lambda: self._cast.signal(name, signal.SIGCONT))

    def _revive(self, name: str) -> None:
        self._killed.discard(name)
        self._cast.restart(name)

    def _kill_redis(self) -> None:
        self._server.kill()
        self.done["redis killed"] += 1
        time.sleep(self._rng.uniform(0, 2))
        started = time.monotonic()
        self._server.start(RESTART_DEADLINE_S)
        took_s = time.monotonic() - started
        # loading a long log must not be all that Redis does
        self._later(self._rng.uniform(8, 25) + 5 * took_s, self._kill_redis)
