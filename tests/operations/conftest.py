"""Open a runbook for a server; the tools of a person must be there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import free_ports_in_a_row
from tests.operations.runbook import Runbook

Open = Callable[[str, int, str], Runbook]

_MISSING = [tool for tool in ("redis-cli", "curl", "sh") if shutil.which(tool) is None]


@pytest.fixture
def replica_port() -> int:
    """Where the replica of the page, at 8080 there, listens."""
    return free_ports_in_a_row(1)


@pytest.fixture
def open_book(tmp_path: Path, replica_port: int) -> Open:
    """Open a section for a server: open_book("## Upgrade", server.port, server.url)."""
    if _MISSING:
        pytest.skip(f"not on PATH: {', '.join(_MISSING)}")

    def opened(heading: str, port: int, redis_url: str) -> Runbook:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        places = {"127.0.0.1:8080": f"127.0.0.1:{replica_port}", "--port 8080": f"--port {replica_port}"}
        return Runbook(heading, folder, port, redis_url, places)

    return opened
