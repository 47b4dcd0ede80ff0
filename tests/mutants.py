"""Breaks one rule at a time, in a copy of the tree, and says whether the judge, or the test it names, turns red.

Run it as python -m tests.mutants [--examples 60]. Exit status 1 if a broken rule went unnoticed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TEST = "tests/property/test_oracle.py"


class Mutant(NamedTuple):
    rule: str
    file: str
    old: str
    new: str
    test: str = TEST


def read_mutants() -> tuple[Mutant, ...]:
    entries = tomllib.loads((ROOT / "tests/mutants.toml").read_text("utf-8"))["mutant"]
    return tuple(Mutant(**entry) for entry in entries)


def killed(mutant: Mutant, examples: int) -> tuple[Mutant, bool, str]:
    """Whether the test fails on a copy of the tree that has this rule broken."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        for part in ("scheduler", "lua", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / mutant.file
        text = file.read_text("utf-8")
        if text.count(mutant.old) != 1:
            return mutant, False, f"the rule stands {text.count(mutant.old)} times in the file"
        file.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        environ = {**os.environ, "FLEET_ORACLE_EXAMPLES": str(examples), "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
        done = subprocess.run(argv, cwd=copy, env=environ, capture_output=True, text=True, timeout=600, check=False)
        found = [line for line in done.stdout.splitlines() if line.startswith(("E  ", "FAILED", "ERROR"))]
        # a tree that does not even load would prove nothing
        red = done.returncode == 1 and f"FAILED {mutant.test}" in done.stdout
        return mutant, red, found[0][2:].strip() if found else done.stdout[-200:]


def judged(mutants: tuple[Mutant, ...], examples: int) -> Iterator[tuple[Mutant, bool, str]]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(lambda mutant: killed(mutant, examples), mutants)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=150)
    parser.add_argument("--only", default="", help="mutants whose rule or file contains this")
    options = parser.parse_args()
    chosen = tuple(m for m in read_mutants() if options.only in f"{m.rule} {m.file}")
    alive = 0
    for mutant, red, why in judged(chosen, options.examples):
        alive += not red
        print(f"{'killed  ' if red else 'SURVIVED'} {mutant.file}: {mutant.rule}: {why[:120]}", flush=True)
    print(f"mutants: {len(chosen) - alive} of {len(chosen)} killed")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
