"""The lines of docs/migrating.md do what the page says, typed on a node that stands for one of the shim's."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scheduler.dev.server import EmbeddedServer
from tests.e2e.conftest import FLEET, Replicas, fcall, register
from tests.sharded import Shards

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "migrating.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MISSING = [tool for tool in ("redis-cli", "curl", "sh") if shutil.which(tool) is None]


def typed(block: str, url: str, port: int) -> str:
    """Run a block as it stands, against the addresses of this test."""
    here = block.replace("http://127.0.0.1:8080", url).replace("redis-cli ", f"redis-cli -p {port} ")
    here = here.replace(".venv/bin/fleet ", f"{FLEET} ")
    done = subprocess.run(
        ["sh", "-euc", here],
        env={"REDIS_URL": f"redis://127.0.0.1:{port}", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), block
    return done.stdout


@pytest.mark.one_shard("types the keys of the page, which are those of one shard")
@pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}")
def test_each_line_of_the_page_does_what_it_says(server: EmbeddedServer, shards: Shards, replicas: Replicas) -> None:
    example, compare, shadow, cordon = BLOCKS
    assert example == ".venv/bin/python -m examples.migrating\n", "tried by test_examples.py"
    incarnation = register(shards, "worker-1", "asr:zh")
    (url,) = replicas(1)
    assert "worker-1" in typed(compare, url, server.port)
    assert '"placeable"' in typed(shadow, url, server.port)
    assert '"cordoned"' in typed(cordon, url, server.port)
    assert '"placeable"' not in typed(shadow, url, server.port)

    # a worker that registers under the same id is ready at once, and the shim hears that it has no more to say
    register(shards, "worker-1", "asr:zh")
    assert '"placeable"' in typed(shadow, url, server.port)
    assert fcall(shards, "node_heartbeat", "worker-1", incarnation) == ["fenced"]


def test_the_page_has_the_six_steps_that_the_example_prints() -> None:
    told = (ROOT / "examples" / "migrating" / "README.md").read_text("utf-8")
    steps = re.findall(r"^\*\*(\d)\. ", PAGE, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5", "6"]
    assert re.findall(r"^(\d) ", told, re.MULTILINE) == steps
