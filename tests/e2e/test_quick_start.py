"""docs/quick-start.md to the letter: every block in its order and terminal, and each answer as the page says it."""

import html
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import free_ports_in_a_row
from tests.e2e.page import DOCS, Step, Terminal, lacking, plain_environ, shown, steps

ROOT = Path(__file__).parents[2]
PAGE = "quick-start.md"
MISSING = [tool for tool in ("git", "make", "curl", "redis-cli") if shutil.which(tool) is None]
MACHINE_S = 300
REDIS = "redis://127.0.0.1:40123"
# What a reader sees in a browser: an address, and the words in bold behind it.
_LOOK = re.compile(r"(http://127\.0\.0\.1:8080/\S+) says \*\*([^*]+)\*\*")

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}"),
]


class Reader:
    """Does what the page says, in its three terminals, on ports that are free here."""

    def __init__(self, folder: Path, ending: ExitStack, **environ: str) -> None:
        self.folder, self._ending = folder, ending
        self._environ = plain_environ(**environ)
        self._terminals: dict[str, Terminal] = {}
        self.port = free_ports_in_a_row(3)
        self._redis = REDIS

    def _terminal(self, name: str) -> Terminal:
        if name not in self._terminals:
            self._terminals[name] = self._ending.enter_context(Terminal(self.folder, self._environ))
        return self._terminals[name]

    def _here(self, text: str) -> str:
        """The block with the ports of here; should this test be killed, the fleet ends by itself."""
        text = text.replace("--no-load", f"--no-load --port {self.port} --duration 15m")
        text = text.replace("fleet submit", f"fleet submit --url http://127.0.0.1:{self.port}")
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}").replace(REDIS, self._redis)

    def follow(self, step: Step) -> None:
        for name in re.findall(r"Ctrl-C in the (\w+) terminal", step.said_before):
            self.stop(name, step.told)
        if step.file:
            (self.folder / step.file).write_text(step.text, "utf-8")
        elif step.kind == "sh":
            terminal = self._terminal(step.terminal)
            if step.terminal == "second":
                said, _ = terminal.play(self._here(step.text), MACHINE_S)
                shown(step.told, said)
            else:
                terminal.begin(self._here(step.text))
                said = terminal.watch(step.told, 60)
                if found := re.search(r"redis://127\.0\.0\.1:\d+", said):
                    self._redis = found[0]

    def stop(self, name: str, told: str) -> str:
        self._terminals[name].press_ctrl_c()
        said, _ = self._terminals[name].rest()
        assert list(lacking(told.splitlines(), said)) == [], said
        assert "Traceback" not in said
        return said

    def look(self) -> None:
        """The addresses that the page names, in a browser's place."""
        for address, words in _LOOK.findall((DOCS / PAGE).read_text("utf-8")):
            answer = httpx.get(self._here(address), headers={"accept": "text/html"}, timeout=10)
            text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", answer.text)))
            assert answer.status_code == 200
            assert re.sub(r"\s+", " ", words) in text


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def follow_all(reader: Reader, found: list[Step]) -> None:
    for step in found:
        if "Ctrl-C in the third" in step.said_before:
            reader.look()
        reader.follow(step)
    assert "Summary" not in reader.stop("first", ""), "there was no load to tell of"


def test_every_step_shows_what_one_should_see() -> None:
    found = steps(PAGE)
    assert {step.kind for step in found} == {"sh", "python", "text"}
    assert len(found) > 14
    assert [step.text for step in found if not step.told and not step.file] == []
    assert _LOOK.search((DOCS / PAGE).read_text("utf-8"))


@pytest.mark.timeout(120)
def test_the_page_does_what_it_says_from_its_second_step_on(tmp_path: Path, ending: ExitStack) -> None:
    folder = tmp_path / "fleet-scheduler"
    folder.mkdir()
    for entry in ROOT.iterdir():
        (folder / entry.name).symlink_to(entry)
    follow_all(Reader(folder, ending), steps(PAGE)[1:])


@pytest.mark.slow
@pytest.mark.timeout(2 * MACHINE_S)
def test_a_newcomer_with_a_fresh_clone_is_through_in_five_minutes(
    tmp_path: Path, ending: ExitStack, record_property: Callable[[str, object], None]
) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    started, used = time.monotonic(), os.times()
    reader = Reader(tmp_path, ending, REPOSITORY=str(ROOT))
    first, *others = steps(PAGE)
    reader.follow(first)
    cloned_s = time.monotonic() - started
    reader.folder = tmp_path / "fleet-scheduler"
    follow_all(reader, others)
    took_s = time.monotonic() - started
    ending.close()
    now = os.times()
    cpu_s = now.children_user + now.children_system - used.children_user - used.children_system
    record_property(
        "figure",
        f"the quick start took {took_s:.0f} s of machine time, {cloned_s:.0f} of them to clone and set up; "
        f"{cpu_s:.0f} s of CPU",
    )
    assert took_s < MACHINE_S
