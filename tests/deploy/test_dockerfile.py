"""deploy/docker/Dockerfile: linted, and its steps carried out here, without an engine."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.serving import serving

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "docker" / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")
Instruction = tuple[str, str]

_CLOSE_THE_ROOT = """
mount --make-rprivate /
findmnt -rnvo TARGET | grep -v -e '^/proc' -e '^/dev' -e '^/sys' |
    while read -r at; do mount -o remount,ro,bind "$at"; done
exec "$@"
"""


def stages() -> list[list[Instruction]]:
    lines = (line for line in FILE.read_text("utf-8").splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


BUILD, FINAL = stages()


def said(stage: list[Instruction], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


def variables(stage: list[Instruction]) -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in said(stage, "ENV") for pair in rest.split())


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint is not installed (extra: deploy)")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, FILE], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_what_it_copies_is_there_and_not_ignored() -> None:
    sources = [word for rest in said(BUILD, "COPY") for word in rest.split()[:-1]]
    ignore = (FILE.parent / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert sorted(kept) == sorted(sources)
    assert not any(fnmatch(source, rule) for source in sources for rule in rules[1:] if not rule.startswith("!"))


def test_it_runs_as_nobody_in_particular_and_its_paths_agree() -> None:
    assert said(FINAL, "USER") == ["65532:65532"]
    (copied,) = said(FINAL, "COPY")
    assert copied == "--from=build /opt/fleet /opt/fleet"
    assert variables(FINAL)["PATH"].startswith("/opt/fleet/bin:")
    # a virtual environment stands on the interpreter of the image that made it
    base = said(BUILD, "FROM")[0].removesuffix(" AS build")
    assert base == said(FINAL, "FROM")[0]
    assert "curl" not in FILE.read_text("utf-8")


@contextmanager
def carried_out() -> Iterator[Path]:
    """The build stage done in a folder of this machine; answers what stands for /opt/fleet."""
    # a folder of pytest's is closed to other users
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        context, programs = top / "build", top / "bin"
        context.mkdir()
        programs.mkdir()
        python = programs / "python"
        python.write_text(f'#!/bin/sh\nexec "{Path(sys.base_prefix) / "bin" / "python3"}" "$@"\n', "utf-8")
        python.chmod(0o755)
        for rest in said(BUILD, "COPY"):
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / source, context / target, ignore=ignored)
                else:
                    shutil.copy(ROOT / source, context / target)
        unwanted = {"PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"}
        inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
        environ = {**inherited, **variables(BUILD), "PATH": f"{programs}:/usr/bin:/bin"}
        for command in said(BUILD, "RUN"):
            here = command.replace("/opt/fleet", str(top / "fleet"))
            done = subprocess.run(
                ["/bin/sh", "-ec", here],
                cwd=context,
                env=environ,
                capture_output=True,
                text=True,
                timeout=170,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(context)
        yield top / "fleet"


def may_unshare() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    return (
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=20, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(
    not may_unshare(), reason="only root may make a root of its own read-only, with unshare and setpriv"
)
def test_what_it_builds_serves_from_a_read_only_root_without_privileges(redis_url: str, tmp_path: Path) -> None:
    (user,) = said(FINAL, "USER")
    uid, gid = user.split(":")
    with carried_out() as fleet:
        pinned = (ROOT / "constraints.txt").read_text("utf-8").lower().replace("_", "-").splitlines()
        listed = (
            subprocess.run(
                [sys.executable, "-m", "pip", "--python", fleet / "bin" / "python", "freeze", "--all"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            .stdout.lower()
            .replace("_", "-")
            .split("\n")
        )
        packages = {line for line in listed if "==" in line}
        assert {package for package in packages if package.partition("==")[0] != "setuptools"} <= {*pinned}
        assert not any(package.startswith(("pip==", "pytest==")) for package in packages)

        # The interpreter may lie where only root looks, which an image's does not: that one right stays.
        rights = "-all,+dac_read_search"
        sealed = [
            "unshare", "--mount", "sh", "-ec", _CLOSE_THE_ROOT, "-",
            "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--pdeathsig=KILL",
            f"--inh-caps={rights}", f"--ambient-caps={rights}", f"--bounding-set={rights}",
        ]  # fmt: skip
        tries = subprocess.run(
            [*sealed, "touch", tmp_path / "file"], capture_output=True, text=True, timeout=20, check=False
        )
        assert "Read-only file system" in tries.stderr, "the root is closed"

        (entry,), (command,) = said(FINAL, "ENTRYPOINT"), said(FINAL, "CMD")
        program = [*sealed, str(fleet / "bin" / json.loads(entry)[0])]
        environ = {**variables(FINAL), "PATH": f"{fleet}/bin:/usr/bin:/bin", "REDIS_URL": redis_url}
        refused = subprocess.run(
            [*program, *json.loads(command)], env=environ, capture_output=True, text=True, timeout=30, check=False
        )
        assert refused.returncode == 2
        assert "fleet apikeys create --tenant '*' --role admin" in refused.stderr
        subprocess.run([*program, "library", "load"], env=environ, capture_output=True, timeout=30, check=True)

        check = json.loads(said(FINAL, "HEALTHCHECK")[0].partition("CMD ")[2])
        made = subprocess.run(
            [*program, "apikeys", "create", "--tenant", "*", "--role", "admin"], env=environ, timeout=30, check=True,
            capture_output=True,
        )  # fmt: skip
        assert made.stdout.startswith(b"fleet_")
        with serving(json.loads(command), environ, program=program) as (url, process):
            assert Path(f"/proc/{process.pid}/status").read_text("ascii").count(f"Uid:\t{uid}") == 1
            here = [*sealed, *(word.replace("http://127.0.0.1:8080", url) for word in check)]
            assert subprocess.run(here, env=environ, timeout=20, check=False).returncode == 0
            process.terminate()
            process.wait(15)
            assert subprocess.run(here, env=environ, capture_output=True, timeout=20, check=False).returncode != 0
