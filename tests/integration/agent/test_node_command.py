import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scheduler.cli.main import main
from scheduler.domain.ids import NodeId
from tests.integration.agent.conftest import NODE, Site, until

GOOD = {"id": "n1", "slots": "2", "capabilities": "work"}
SERVICES = """
[[services]]
service = "asr"
languages = ["zh-CN", "en"]

[[services]]
service = "nmt"
rule = "any_to_any"
languages = ["zh", "en", "ja"]
blocked = ["zh>ja"]

[[services]]
service = "tts"
languages = ["en"]
ready = false
"""
STUBBORN = """
import asyncio

async def wait_long(job):
    await asyncio.sleep(3600)

def not_async(job):
    return "x"
"""


def _argv(**options: str) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@asynccontextmanager
async def _node(site: Site, folder: Path, *argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real `fleet node run` that has registered."""
    limits = _argv(**{"cpu-max": "100", "mem-max": "100", "redis-url": site.url, "heartbeat-ms": "100"})
    program = Path(sys.executable).with_name("fleet")
    process = await asyncio.create_subprocess_exec(
        program, "node", "run", *limits, *argv, cwd=folder, stderr=asyncio.subprocess.PIPE
    )
    try:
        await until(lambda: site.node() or process.returncode is not None, 20)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _status(process: asyncio.subprocess.Process) -> tuple[int, str]:
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_sigterm_lets_demo_jobs_end_and_takes_the_node_out(site: Site, tmp_path: Path) -> None:
    async with _node(site, tmp_path, *_argv(**GOOD | {"slots": "8"}), "--demo") as process:
        jobs = [f"j{i}" for i in range(8)]
        for job in jobs:
            await site.place(job)
        process.terminate()
        assert (await _status(process))[0] == 0
    # those it had not begun when the signal came are handed back, and wait for another node
    ended = {(site.job(job)["state"], site.job(job)["reason"]) for job in jobs}
    assert ended <= {("succeeded", ""), ("pending", "released")}
    assert site.node() == {}
    assert site.leases() == []


async def test_sigterm_hands_back_a_job_that_does_not_end_in_time(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STUBBORN, "utf-8")
    argv = _argv(**GOOD, handler="mine:wait_long", **{"drain-ms": "200"})
    async with _node(site, tmp_path, *argv) as process:
        await site.place("j1")
        await until(lambda: site.job("j1")["state"] == "running")
        process.terminate()
        assert (await _status(process))[0] == 0
    assert site.job("j1")["reason"] == "released"
    assert site.node() == {}
    assert site.leases() == []


async def test_a_fenced_node_ends_with_status_3_and_says_why(site: Site, tmp_path: Path) -> None:
    async with _node(site, tmp_path, *_argv(**GOOD), "--demo") as process:
        await site.functions.node_register(NodeId("n1"), endpoint="x", slots=1, capabilities=["work"])
        status, said = await _status(process)
    assert status == 3
    assert "Another process has registered this node id; this one stops: n1" in said
    assert site.node(NODE)["endpoint"] == "x"


async def test_a_file_of_services_says_what_the_node_offers(site: Site, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(SERVICES, "utf-8")
    async with _node(site, tmp_path, "--id", "n1", "--slots", "2", "--services", "models.toml", "--demo"):
        tokens = set(site.node()["capabilities"].split())
    assert {"asr:zh", "asr:en", "nmt:zh>en", "nmt:ja>zh", "nmt.auto:en"} <= tokens
    assert tokens.isdisjoint({"nmt:zh>ja", "tts:en"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing required field `services`"),
        ("[[service]]", "unknown field `service`"),
        ("services = 5", "Expected `array`, got `int` - at `services`"),
        ("x = [", "cannot be read: "),
        ("[[services]]", "missing required field `service` - at `services[0]`"),
        ('[[services]]\nservice = "ocr"', "Invalid value 'ocr' - at `services[0].service`"),
        ('[[services]]\nservice = "asr"', "missing required field `languages` - at `services[0]`"),
        ('[[services]]\nservice = "asr"\nlanguages = []', "length >= 1 - at `services[0].languages`"),
        ('[[services]]\nservice = "asr"\nlanguages = ["zh", 5]', "at `services[0].languages[1]`"),
        (
            '[[services]]\nservice = "asr"\nlanguages = ["zh", "chinese"]',
            "services[0].languages[1] must be a language code of at most 35 characters",
        ),
        ('[[services]]\nservice = "asr"\nlanguages = ["zh"]\nspeed = 2', "unknown field `speed` - at `services[0]`"),
        (
            '[[services]]\nservice = "nmt"\nrule = "pairs"\npairs = ["zh"]',
            "services[0].pairs[0] must be two languages",
        ),
        ('[[services]]\nservice = "nmt"\nrule = "all"', "at `services[0].rule`"),
    ],
)
def test_a_bad_file_of_services_is_named_with_its_field(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SystemExit) as ending:
        main(["node", "run", *_argv(**GOOD), "--services", str(path), "--demo"])
    assert ending.value.code == 2
    error = capsys.readouterr().err
    assert f"--services {path}" in error
    assert said in error


def test_a_file_of_services_that_is_not_there_or_no_text_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff")
    for path in (broken, tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(SystemExit):
            main(["node", "run", *_argv(**GOOD), "--services", str(path), "--demo"])
        assert f"--services {path} cannot be read" in capsys.readouterr().err


def test_a_node_that_offers_nothing_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["node", "run", "--id", "n1", "--slots", "2", "--demo"])
    assert "capabilities must be 1 to 1024 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "-x"}, "id must be 1 to 64 characters"),
        ({"id": "x" * 65}, "id must be 1 to 64 characters"),
        ({"slots": "0"}, "slots must be from 1 to 1000000"),
        ({"slots": "1000001"}, "slots must be from 1 to 1000000"),
        ({"slots": "two"}, "'--slots': 'two' is not a valid integer"),
        ({"capabilities": " "}, "capabilities must be 1 to 1024 tokens"),
        ({"capabilities": "a;b"}, "capabilities must be 1 to 128 characters"),
        ({"capabilities": " ".join(f"t{i}" for i in range(1_025))}, "capabilities must be 1 to 1024 tokens"),
        ({"labels": "zone"}, "labels must be key=value words"),
        ({"labels": "zone=a zone=b"}, "labels must name each key once"),
        ({"labels": "zone=" + "a" * 129}, "labels must be key=value words of A-Z a-z 0-9 . _ - / up to 64 and 128"),
        ({"labels": " ".join(f"k{i}=v" for i in range(65))}, "labels must be at most 64"),
        ({"endpoint": "http://a b"}, "endpoint must be 1 to 512 characters of a URL"),
        ({"cpu-max": "101"}, "cpu_max must be a number from 0 to 100"),
        ({"mem-max": "nan"}, "mem_max must be a number from 0 to 100"),
        ({"ttl-ms": "99"}, "ttl_ms must be from 100 to 3600000"),
        ({"heartbeat-ms": "1501"}, "heartbeat_ms must be from 10 to half of ttl_ms, 1500"),
        ({"drain-ms": "-1"}, "drain_ms must be from 0 to 86400000"),
        ({"redis-url": "http://x"}, "REDIS_URL must begin with one of redis://"),
        ({"namespace": "a b"}, "namespace must be 1 to 64 characters"),
    ],
)
def test_bad_input_names_the_field_and_the_limit(
    options: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["node", "run", *_argv(**GOOD | options), "--demo"])
    assert ending.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--handler or --demo must be given"),
        (["--demo", "--handler", "mine:wait_long"], "--handler or --demo must be given"),
        (["--handler", "nowhere:x"], "--handler must be module:function"),
        (["--handler", "mine"], "--handler must be module:function"),
        (["--handler", "mine:other"], "--handler must be module:function"),
        (["--handler", "mine:not_async"], "--handler must name an async function"),
    ],
)
def test_a_handler_must_be_one_async_function(
    argv: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text(STUBBORN, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(SystemExit) as ending:
        main(["node", "run", *_argv(**GOOD), *argv])
    assert ending.value.code == 2
    assert said in capsys.readouterr().err
