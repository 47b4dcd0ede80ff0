"""Row c without a server: what a process says, what is missing and why, and how the peers are pinned."""

import re
import sys
from pathlib import Path

import pytest

from scheduler.bench.enqueues import PEERS, SCRIPTS, Rates, rates, run
from scheduler.bench.stage import Plan
from scheduler.dev.server import ServerChoice
from scheduler.errors import NoServer


def script(folder: Path, text: str) -> list[str]:
    path = folder / "with_it.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_the_last_line_of_a_process_has_its_rates(tmp_path: Path) -> None:
    said = script(tmp_path, """print("hello"); print('{"per_second": 2.5, "per_cpu_second": 5}')""")
    assert rates(said, 1) == Rates(2.5, 5)


def test_a_process_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match=r"with_it\.py failed: ModuleNotFoundError: No module named 'nothing_of_this'"):
        rates(script(tmp_path, "import nothing_of_this"), 1)


def test_without_the_peers_environment_the_row_says_what_makes_it(tmp_path: Path) -> None:
    plan = Plan(ServerChoice("redis", "7.0.0"), peers_python=tmp_path / "python")
    with pytest.raises(NoServer, match="make bench"):
        next(run(plan))


def test_each_peer_has_its_script() -> None:
    assert {peer.script for peer in PEERS} == {path.name for path in SCRIPTS.glob("with_*.py")}


def test_every_package_of_the_peers_is_pinned_and_no_address_is_named() -> None:
    lines = [line for line in (SCRIPTS / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
