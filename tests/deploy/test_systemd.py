"""deploy/systemd: units that systemd-analyze takes, closed as far as they say, and commands that really run."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from scheduler.dev.process import spawn_bound, stop
from scheduler.http.serving import listening
from tests.deploy.serving import first_key, serving
from tests.e2e.conftest import FLEET, wait_until

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = {"fleet-scheduler@.service": "8080", "fleet-library.service": "", "fleet-node@.service": "speech-01"}
PROGRAM = "/opt/fleet/bin/fleet"
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def lines(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", (FOLDER / unit).read_text("utf-8"), re.MULTILINE)


def seconds(unit: str, name: str) -> int:
    (value,) = lines(unit, name)
    return int(value)


def command(unit: str, variables: dict[str, str]) -> list[str]:
    """What systemd would run, with this environment's program."""
    (line,) = lines(unit, "ExecStart")
    program, *words = shlex.split(line.replace("%i", UNITS[unit]))
    assert program == PROGRAM
    # ${NAME} is one word, whatever is in it
    return [re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], word) for word in words]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder of their own, with a program that is there."""
    for unit in UNITS:
        text = (FOLDER / unit).read_text("utf-8")
        assert PROGRAM in text
        (tmp_path / unit).write_text(text.replace(PROGRAM, str(FLEET)), "utf-8")
    return tmp_path


def analyze(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [str(ANALYZE), "--no-pager", *arguments]
    environ = {"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=50, check=False)


def instance(unit: str) -> str:
    return unit.replace("@", f"@{UNITS[unit]}")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit(unit: str, installed: Path) -> None:
    done = analyze(installed, "--man=no", "verify", instance(unit))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_a_misspelt_line_would_be_seen(installed: Path) -> None:
    unit = installed / "fleet-scheduler@.service"
    unit.write_text(unit.read_text("utf-8").replace("ProtectClock=", "ProtectClok="), "utf-8")
    assert "ProtectClok" in analyze(installed, "--man=no", "verify", instance(unit.name)).stderr


@needs_systemd
@pytest.mark.parametrize(
    ("unit", "most"),
    [("fleet-scheduler@.service", 2.0), ("fleet-library.service", 2.0), ("fleet-node@.service", 3.0)],
)
def test_little_is_open_to_it(unit: str, most: float, installed: Path) -> None:
    done = analyze(installed, "security", "--offline=true", instance(unit))
    if "offline" in done.stderr:
        pytest.skip(f"this systemd-analyze judges running units only: {done.stderr.strip()}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= most


def test_no_unit_holds_an_address_or_runs_as_root() -> None:
    for unit in UNITS:
        node = unit == "fleet-node@.service"
        assert lines(unit, "EnvironmentFile")[0] == f"/etc/fleet/{'node' if node else 'fleet'}.env"
        assert lines(unit, "DynamicUser") == ["yes"]
        assert lines(unit, "CapabilityBoundingSet") == [""]
        assert lines(unit, "Environment") == (["FLEET_AUTH=required"] if unit == "fleet-scheduler@.service" else [])


def test_each_has_the_time_to_leave() -> None:
    async def nothing(*_: object) -> None: ...

    graceful = listening(nothing, "127.0.0.1", 1).timeout_graceful_shutdown
    assert graceful is not None
    assert seconds("fleet-scheduler@.service", "TimeoutStopSec") >= 2 * graceful
    (line,) = lines("fleet-node@.service", "ExecStart")
    drain = re.search(r"--drain-ms (\d+)", line)
    assert drain
    assert seconds("fleet-node@.service", "TimeoutStopSec") * 1_000 > int(drain[1]) + 10_000


def test_the_units_place_and_run_a_job(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "speech.py").write_text("async def handle(job):\n    return job.payload\n", "utf-8")
    # as the unit's comment says it
    example = dict(re.findall(r"^#   (\w+)=(.*)$", (FOLDER / "fleet-node@.service").read_text("utf-8"), re.MULTILINE))
    variables = {name: shlex.split(value)[0] for name, value in example.items()}
    assert variables["NODE_CAPABILITIES"].count(" ") == 1
    environ = {"PATH": "/usr/bin:/bin", "REDIS_URL": redis_url}

    load: list[str | Path] = [FLEET, *command("fleet-library.service", {})]
    assert subprocess.run(load, env=environ, capture_output=True, timeout=30, check=False).returncode == 0
    # a test's machine may be busier than a node's should be
    node: list[str | Path] = [
        FLEET,
        *command("fleet-node@.service", variables),
        "--cpu-max",
        "100",
        "--mem-max",
        "100",
    ]
    started = spawn_bound(node, environ=environ, cwd=tmp_path, stderr=subprocess.DEVNULL)
    unit = (FOLDER / "fleet-scheduler@.service").read_text("utf-8")
    settings = dict(re.findall(r"^Environment=(\w+)=(\w+)$", unit, re.MULTILINE))
    assert settings == {"FLEET_AUTH": "required"}
    try:
        headers = {"authorization": f"Bearer {first_key(environ)}"}
        scheduler = serving(command("fleet-scheduler@.service", {}), environ | settings)
        with scheduler as (url, _), httpx.Client(base_url=url, headers=headers, timeout=30) as http:
            assert httpx.get(f"{url}/v1/nodes").status_code == 401
            wait_until(lambda: http.get("/v1/nodes/speech-01").is_success, "the node is there", 30)
            body = {"requires": ["asr:zh"], "payload": "said", "id": "j"}
            wait_until(lambda: http.post("/v1/jobs", json=body).status_code == 201, "placed", 20)
            ended = http.get("/v1/jobs/default:j?wait_ms=20000").json()["job"]
            assert (ended["state"], ended["node"]["id"]) == ("succeeded", "speech-01")
        started.terminate()
        assert started.wait(seconds("fleet-node@.service", "TimeoutStopSec")) == 0
    finally:
        stop([started])


def test_a_node_that_was_fenced_out_or_is_set_wrong_does_not_come_back(redis_url: str) -> None:
    assert lines("fleet-node@.service", "RestartPreventExitStatus") == ["2 3"]
    argv: list[str | Path] = [
        FLEET,
        "node",
        "run",
        "--id",
        "no id",
        "--slots",
        "1",
        "--demo",
        "--redis-url",
        redis_url,
    ]
    assert subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 2
