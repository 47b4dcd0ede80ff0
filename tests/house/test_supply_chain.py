"""What is installed is known by its hash, what is built comes out the same each time, and what runs is listed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "deploy" / "pins"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# A dot in brackets, so that this file does not name what it looks for.
REGISTRIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|proxy[.]golang[.]org|crates[.]io|(?:deb|security)[.]debian[.]org"
)


class Pin(NamedTuple):
    version: str
    marker: str
    hashes: frozenset[str]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, Pin]:
    """The pins of a file; a line of any other kind fails."""
    text = re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = line.split(" --hash=")
        told = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)(?: ; (.+?))?\s*", requirement)
        assert told, line
        assert all(HASH.fullmatch(f"--hash={word.strip()}") for word in hashes), line
        found[canonical(told[1])] = Pin(told[2], told[3] or "", frozenset(word.strip() for word in hashes))
    return found


ALL, RUN, BUILD = (pins(PINS / f"{name}.txt") for name in ("all", "run", "build"))


def test_every_pin_has_the_hashes_of_its_files_and_there_is_no_other() -> None:
    pinned = {name: pin.version for name, pin in pins(ROOT / "constraints.txt").items()}
    # Windows needs more; nothing here runs on it
    hashed = {name: pin.version for name, pin in ALL.items() if pin.marker != "sys_platform == 'win32'"}
    assert hashed == pinned, "after a change of pyproject.toml or constraints.txt: make pins"
    assert [name for name, pin in ALL.items() if not pin.hashes] == []


@pytest.mark.parametrize("part", [RUN, BUILD], ids=["run", "build"])
def test_what_the_image_is_made_of_is_a_part_of_the_same_pins(part: dict[str, Pin]) -> None:
    assert len(part) > 4
    assert {name: pin for name, pin in part.items() if ALL[name]._replace(marker=pin.marker) != pin} == {}


def test_the_image_has_no_more_than_the_project_needs() -> None:
    import tomllib

    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert {canonical(re.split(r"[^\w.-]", need)[0]) for need in needed} <= set(RUN)
    assert not {"pytest", "hatchling", "pip", "setuptools"} & set(RUN)


def test_pip_takes_from_an_index_only_what_it_has_the_hash_of() -> None:
    """Each other install is of this folder, or of the wheel that was made of it."""
    recipes = [
        re.sub(r"\\\n\s*", " ", (ROOT / name).read_text("utf-8")) for name in ("Makefile", "deploy/docker/Dockerfile")
    ]
    words = dict(re.findall(r"^(\w+) := (.*)$", recipes[0], re.MULTILINE))
    installs = [
        re.sub(r"\$\((\w+)\)", lambda told: words.get(told[1], told[0]), line)
        for recipe in recipes
        for line in re.split(r"\n|&&", recipe)
        if "pip install" in line or "$(INSTALL)" in line
    ]
    # measuring tools in environments of their own: nothing that is shipped comes from there
    ours = [line for line in installs if not re.search(r"/peers/bin/|/pins/bin/|^INSTALL ", line)]
    assert len(ours) == 7
    loose = [line for line in ours if "--require-hashes" not in line and "--no-deps" not in line]
    assert loose == []
    assert [line for line in ours if "--require-hashes" in line and "--only-binary :all:" not in line] == []


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not in a clone")
def test_no_file_names_the_host_of_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=20).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name]
    assert len(files) > 100
    named = [
        str(file.relative_to(ROOT))
        for file in files
        if file.is_file() and REGISTRIES.search(file.read_bytes().decode("utf-8", "replace"))
    ]
    assert named == []


def _built(folder: Path, target: Path, umask: int, **environ: str) -> Path:
    """The wheel of a copy of the sources, as somebody else would build it."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("scheduler", "lua"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
        )
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (1_000_000_000 + umask, 1_000_000_000 + umask))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "1700000000", **environ},
        umask=umask,
        check=True,
        capture_output=True,
        timeout=50,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


def test_the_wheel_is_the_same_to_the_byte_whoever_builds_it(tmp_path: Path) -> None:
    one = _built(tmp_path / "a", tmp_path / "one", 0o022, TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1")
    two = _built(
        tmp_path / "b" / "deeper", tmp_path / "two", 0o077, TZ="Asia/Tokyo", LC_ALL="C.UTF-8", PYTHONHASHSEED="2"
    )
    other = _built(tmp_path / "c", tmp_path / "three", 0o022, SOURCE_DATE_EPOCH="1800000000")
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes(), "the time of the commit is in it"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not in a clone")
def test_make_dist_lists_what_runs_the_wheel_as_cyclonedx(tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    done = subprocess.run(
        ["make", "--silent", "dist", f"DIST={tmp_path / 'dist'}", f"RUN={tmp_path / 'run'}", f"VENV={sys.prefix}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    (wheel,) = (tmp_path / "dist").glob("fleet_scheduler-*.whl")
    text = (tmp_path / "dist" / "fleet-scheduler.cdx.json").read_text("utf-8")
    told = json.loads(text)
    version = SchemaVersion.from_version(told["specVersion"])
    assert JsonStrictValidator(version).validate_str(text) is None

    root = told["metadata"]["component"]
    assert (root["name"], root["version"]) == ("fleet-scheduler", wheel.name.split("-")[1])
    listed = {canonical(part["name"]): part for part in told["components"]}
    environment = {name: pin.version for name, pin in RUN.items() if name in listed or not pin.marker}
    assert {name: part["version"] for name, part in listed.items() if name != "fleet-scheduler"} == environment
    assert [name for name, part in listed.items() if not part.get("licenses")] == []
    depends = {found["ref"]: found.get("dependsOn", []) for found in told["dependencies"]}
    assert len(depends[root["bom-ref"]]) >= 15
    assert not re.search(re.escape(str(tmp_path)), text), "no path of the machine that made it"


def test_security_says_where_to_report_and_what_is_promised() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    assert re.search(r"^## Report", text, re.MULTILINE)
    assert "private" in text
    assert "docs/access.md" in text
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    targets = {shlex.split(line)[1] for line in lines if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert targets == {"dist", "pins"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
