"""docs/authentication.md: its commands are run in order, and its table of roles is that of the routes."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from scheduler.domain.apikey import Role, read_key
from tests.e2e.conftest import FLEET, Replicas
from tests.e2e.test_documents import ROOT, commands

PAGE = (ROOT / "docs" / "authentication.md").read_text("utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_each_command_of_the_page_does_what_it_says(replicas: Replicas, redis_url: str, tmp_path: Path) -> None:
    (url,) = replicas(1)
    lines = list(commands(PAGE))
    assert len(lines) == 10
    environ = {**os.environ, "REDIS_URL": redis_url, "COLUMNS": "200"}
    said: list[str] = []
    for line in lines:
        here = line.replace("http://127.0.0.1:8080", url).replace(".venv/bin/fleet", str(FLEET))
        if "fleet submit " in here:
            here += f" --url {url}"
        done = subprocess.run(
            ["/bin/sh", "-ec", here],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        said.append(done.stdout)
    admin, acme, node, renewed = (
        read_key((tmp_path / f"{name}.key").read_text().strip()) for name in ("admin", "acme", "n1", "acme.new")
    )
    assert admin
    assert acme
    assert node
    assert renewed
    assert (acme[0], acme[1] == renewed[1]) == (renewed[0], False)
    assert all(key[0] in said[3] for key in (admin, acme, node))
    assert '"outcome":"registered"' in said[4].replace(" ", "")
    assert " on n1" in said[5]
    assert '"id":"n1"' in said[6]
    assert said[7].startswith("1 nodes, no difference")
    assert said[9] == f"revoked {node[0]}\n"
    assert not any(secret in text for _, secret in (admin, acme, node, renewed) for text in said)


def test_the_page_has_a_row_for_each_role() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.partition("| role | may |")[2].partition("\n\n")[0], re.MULTILINE)
    assert tuple(rows) == get_args(Role)
