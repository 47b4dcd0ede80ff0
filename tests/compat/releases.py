"""Two releases side by side: the previous one from its wheel, and today's, as processes of the same interpreter."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.dev.process import spawn_bound

ROOT = Path(__file__).parents[2]
WHEEL = Path(__file__).with_name("fleet_scheduler-0.1.0-py3-none-any.whl")
_MAIN = "from scheduler.cli.main import main; main()"
_NUMBERS = re.compile(r"^local ABI, REVISION = (\d+), (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """A folder with the package `scheduler` of one release."""

    folder: Path
    lua: Path

    @property
    def numbers(self) -> tuple[int, int]:
        """ABI and revision of its library, which today's code could not join."""
        found = _NUMBERS.search((self.lua / "prelude.lua").read_text("utf-8"))
        assert found
        return int(found[1]), int(found[2])

    @property
    def revision(self) -> int:
        return self.numbers[1]

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "REDIS_"))}
        return kept | {"PYTHONPATH": str(self.folder)}

    def argv(self, *code_and_words: str) -> list[str]:
        # -P: the folder that we are in must not come before that of the release
        return [sys.executable, "-P", "-c", *code_and_words]

    def fleet(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """One `fleet` command of this release, to its end."""
        return self.run(_MAIN, *words)

    def run(self, code: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(code, *words), env=self.environ, capture_output=True, text=True, timeout=50, check=False
        )

    def start(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        return spawn_bound(self.argv(_MAIN, *words), environ=self.environ)


def previous(folder: Path) -> Release:
    """The release of the wheel."""
    zipfile.ZipFile(WHEEL).extractall(folder)
    return Release(folder, folder / "scheduler" / "_lua")


def todays(folder: Path, before: Release) -> Release:
    """This source tree; with its revision raised, in a copy, while it is still that of the release before."""
    here = Release(ROOT, ROOT / "lua")
    if here.revision > before.revision:
        return here
    for name in ("scheduler", "lua"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    prelude = folder / "lua" / "prelude.lua"
    raised = f"local ABI, REVISION = {here.numbers[0]}, {before.revision + 1}"
    prelude.write_text(_NUMBERS.sub(raised, prelude.read_text("utf-8")), "utf-8")
    return Release(folder, folder / "lua")
