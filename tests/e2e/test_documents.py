"""What the documents say can be done: their commands exist, their links lead somewhere, the tour runs."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest

from scheduler.cli.main import fleet
from scheduler.dev.server import EmbeddedServer
from tests.e2e.conftest import FLEET, fcall, place, register
from tests.sharded import Shards

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
TOUR = "## Look inside with redis-cli\n"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FOLDERS = ("docs", "lua", "deploy", "examples", "scheduler", "tests")
_NAMED = re.compile(r"`((?:scheduler|lua|tests|deploy|docs|examples)/[\w./*-]+)(?:::\w+)?`")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[str]:
    """Each line of the blocks that are for a shell."""
    for language, block in _BLOCK.findall(text):
        if language == "sh":
            yield from block.splitlines()


def documents() -> list[Path]:
    """Every document that is part of the project."""
    tops = [ROOT.glob("*.md"), *((ROOT / name).rglob("*.md") for name in _FOLDERS)]
    return sorted(path for top in tops for path in top if "node_modules" not in path.parts)


def anchors(path: Path) -> set[str]:
    """The names that a heading can be linked by."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fleet_command(words: list[str]) -> list[str]:
    """The words that name the command, without its arguments and options."""
    path: list[str] = []
    command: click.Command | None = fleet
    for word in words:
        if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z]+", word):
            break
        path.append(word)
        command = command.get_command(click.Context(command), word)
    return path


MAKE = sorted({shlex.split(line)[1] for line in commands(README) if line.startswith("make ")})
FLEET_LINES = sorted(line for line in commands(README) if re.match(r"(\.venv/bin/)?fleet ", line))
TOUR_LINES = list(commands(README.partition(TOUR)[2].partition("\n## ")[0]))


def test_the_readme_has_commands_of_every_kind() -> None:
    assert {"run", "test"} <= set(MAKE)
    assert len(FLEET_LINES) >= 4
    assert 5 <= len(TOUR_LINES) <= 12
    assert all(line.startswith("redis-cli ") for line in TOUR_LINES)


@pytest.mark.parametrize("target", MAKE)
def test_each_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", FLEET_LINES)
def test_each_fleet_command_of_the_readme_exists_with_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    path = fleet_command(words)
    assert path, line
    done = subprocess.run([FLEET, *path, "--help"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: fleet {' '.join(path)} "), done.stdout
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", done.stdout), f"{line}: no {option}"


def test_every_relative_link_leads_to_a_file_and_a_heading() -> None:
    broken: list[str] = []
    seen = 0
    for document in documents():
        for link in _LINK.findall(_BLOCK.sub("", document.read_text("utf-8"))):
            if "://" in link or link.startswith("mailto:"):
                continue
            seen += 1
            name, _, anchor = link.partition("#")
            target = (document.parent / name).resolve() if name else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{document.relative_to(ROOT)}: {link}")
    assert seen > 5
    assert broken == []


def test_every_file_of_ours_that_a_document_names_is_there() -> None:
    gone: list[str] = []
    seen = 0
    for document in documents():
        for named in _NAMED.findall(_BLOCK.sub("", document.read_text("utf-8"))):
            seen += 1
            if not list(ROOT.glob(named)):
                gone.append(f"{document.relative_to(ROOT)}: {named}")
    assert seen > 50
    assert gone == []


def test_what_a_page_says_of_a_setting_is_what_the_code_does() -> None:
    """docs/settings.md is made from the code and has all of them; other pages may tell of some."""
    from scheduler.settings import SETTINGS

    pages = [README, *(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))]
    told = [
        cells
        for page in pages
        for line in page.partition("## Settings\n")[2].partition("\n## ")[0].splitlines()
        if len(cells := line.strip("|").split("|")) == 5 and cells[0].strip(" -") not in {"variable", ""}
    ]
    rows = {cells[1].strip(" `"): cells for cells in told}
    assert len(rows) == len(told), "each setting is told of once"
    for name, (variable, _, default, limits, _) in rows.items():
        setting = SETTINGS[name]
        assert f"FLEET_{name.upper()}" in variable
        assert default.strip(" `").replace(",", "") == str(setting.default)
        assert limits.replace(",", "").strip() == ("" if setting.low is None else f"{setting.low} to {setting.high}")


def test_the_table_of_functions_names_each_one() -> None:
    sources = {path.stem for path in (ROOT / "lua").glob("*.lua")} - {"prelude"}
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "lua" / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(sources)


@pytest.mark.one_shard("types the keys of the README, which are those of one shard")
@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not on PATH")
def test_each_line_of_the_tour_answers(http: httpx.Client, shards: Shards, server: EmbeddedServer) -> None:
    """On nodes named as in the demo: one is free, one has a job and is cordoned, one has failed five times."""
    register(shards, "speech-02", "gpu asr:zh")
    register(shards, "llm-06", "gpu llm:qwen3-8b")
    assert place(http, "llm:qwen3-8b").status_code == 201
    assert fcall(shards, "node_mark", "llm-06", "cordon") == ["marked", "cordoned"]
    register(shards, "speech-03", "tts:en")
    for _ in range(5):
        job = place(http, "tts:en", deliver="inbox").json()["job"]
        assert fcall(shards, "job_finish", job["id"], str(job["fence"]), "failed") == ["finished"]
    for line in TOUR_LINES:
        program, *arguments = shlex.split(line)
        argv = [program, "-e", "-p", str(server.port), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line
        # an empty answer, or the 0 of a key that is not there, would mean that the key has another name by now
        assert done.stdout.strip() not in {"", "0"}, line
