"""Commands as an artefact says them, run for real: with its arguments, its variables and its probes."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from tests.deploy.balancers import answers
from tests.e2e.conftest import FLEET, wait_until

VERSION = subprocess.run([FLEET, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout.split()[
    -1
]


def first_key(environ: Mapping[str, str]) -> str:
    """An admin's, made as the pages say it."""
    argv = [str(FLEET), "apikeys", "create", "--tenant", "*", "--role", "admin"]
    environ = {"PATH": "/usr/bin:/bin", **environ}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@contextmanager
def serving(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    probes: Sequence[str] = ("/healthz", "/readyz"),
    port: int = 8080,
    program: Sequence[str | Path] = (FLEET,),
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A replica by these arguments, but on a free port; its address and process once its probes answer.

    Nothing of this process's environment reaches it.
    """
    free = free_port()
    given = [*program, *(str(free) if word == str(port) else word for word in arguments)]
    if str(free) not in given:
        given += ["--port", str(free)]
    process = spawn_bound(given, environ={"PATH": "/usr/bin:/bin", **environ}, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{free}"
        for probe in probes:
            wait_until(lambda probe=probe: process.poll() is not None or answers(url + probe), probe, 30)  # type: ignore[misc]
        assert process.poll() is None, f"{given} has ended"
        yield url, process
    finally:
        stop([process], 15)
