"""The project as it leaves this folder: what the wheel carries and what the pins promise."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "lua"
_PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ; python_[a-z_]+ [<>=!]+ '[0-9.]+')?")


def _run(*argv: str, cwd: Path = ROOT) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=True, timeout=50).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_every_lua_source_page_and_type_mark_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    lua = {f"scheduler/_lua/{file.relative_to(LUA)}" for file in LUA.rglob("*.lua")}
    package = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "scheduler").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert len(lua) > 10
    assert "scheduler/py.typed" in package
    assert lua | package <= names
    assert not {name for name in names if name.startswith(("tests/", "lua/"))}


def test_an_installed_wheel_reads_the_same_library_as_this_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from scheduler.store.library import read_library, source_folder\n"
        "print(source_folder()); print(read_library().code, end='')"
    )
    where, _, library = _run(sys.executable, "-I", "-c", code, str(tmp_path), cwd=tmp_path).partition("\n")
    here = "from scheduler.store.library import read_library; print(read_library().code, end='')"
    assert Path(where) == tmp_path / "scheduler" / "_lua"
    assert library == _run(sys.executable, "-c", here)


def test_this_environment_is_exactly_what_the_constraints_pin() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not _PIN.fullmatch(line)] == []

    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    pins = {canonical(name): version.split(" ")[0] for name, _, version in (line.partition("==") for line in lines)}
    installed = {canonical(found.name): found.version for found in distributions(path=[*_site_packages()])}
    unpinned = {
        name: version
        for name, version in installed.items()
        if name not in {"fleet-scheduler", "pip", "setuptools"} and pins.get(name) != version
    }
    assert unpinned == {}


def _site_packages() -> list[str]:
    return [entry for entry in sys.path if entry.startswith(sys.prefix)]
