"""`fleet replay`: what it reports is what Redis recorded, and a bad file is told by name, line and column."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.cli.main import main
from scheduler.sim.replay import Replay, ReplayPlan, Report
from scheduler.sim.trace import Request
from tests.e2e.conftest import FLEET, Replicas, fcall, register
from tests.sharded import Shards

HEADER = "arrival_ms,session,input_tokens,output_tokens"
ROWS = 60


def trace(folder: Path) -> Path:
    """Sixty requests in two seconds of real time (at speed 60), each served for a fifth of a second of it."""
    file = folder / "trace.csv"
    rows = [f"{i * 2_000},s{i % 7 if i % 3 else ''},20000,550" for i in range(ROWS)]
    file.write_text("\n".join([HEADER, *rows, ""]), "utf-8")
    return file


def recorded_ids(shards: Shards) -> list[str]:
    return [name.removeprefix("job:") for name in shards.found("job:*")]


def recorded_jobs(shards: Shards) -> list[dict[str, str]]:
    raw: list[Any] = [shards.redis.hgetall(shards.job(job)) for job in recorded_ids(shards)]
    return [{name.decode(): value.decode() for name, value in fields.items()} for fields in raw]


def test_what_it_reports_is_what_redis_recorded(shards: Shards, replicas: Replicas, tmp_path: Path) -> None:
    for node in ("n1", "n2"):
        register(shards, node, "gpu", slots=2)
    urls = replicas(2)
    argv = [str(FLEET), "replay", str(trace(tmp_path)), "--url", ",".join(urls), "--speed", "60", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)  # JSON alone
    print(report)
    assert report["placed"] + report["refused"] + report["failed"] == report["requests"] == ROWS
    assert report["placed"] > 0
    assert report["refused"] > 0, "four slots are fewer than the load needs"
    assert report["refused_by_class"] == {"overloaded": report["refused"]}

    jobs = recorded_jobs(shards)
    assert len(jobs) == report["placed"]
    assert Counter(job["state"] for job in jobs) == {"succeeded": report["placed"]}
    nodes = Counter(job["node"] for job in jobs)
    assert report["nodes_used"] == len(nodes)
    assert report["balance"] == pytest.approx(max(nodes.values()) / (len(jobs) / 2), abs=0.001)
    assert shards.total("leases") == 0


def refusal(file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ending:
        main(["replay", str(file), "--url", "http://127.0.0.1:9", "--json"])
    said = capsys.readouterr()
    assert (ending.value.code, said.out) == (2, "")
    return said.err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(tmp_path / "nowhere.csv", capsys)
    assert said.startswith(f"fleet: Bad input: {tmp_path / 'nowhere.csv'} cannot be read: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", f" must begin with the line {HEADER}\n"),
        ("", f" must begin with the line {HEADER}\n"),
        (f"{HEADER}\n", " has no requests\n"),
        (f"{HEADER}\n0,,1,1\n0,,1\n", ":3 must have 4 columns, has 3\n"),
        (f"{HEADER}\n0,,1,1\nsoon,,1,1\n", ":3: arrival_ms must be a number from 0 to 10000000000, not 'soon'\n"),
        (f"{HEADER}\n0,,nan,1\n", ":2: input_tokens must be a number from 0 to 100000000, not 'nan'\n"),
        (f"{HEADER}\n0,,1,-1\n", ":2: output_tokens must be a number from 0 to 100000000, not '-1'\n"),
    ],
)
def test_a_malformed_file_is_told_by_line_and_column(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text, "utf-8")
    assert refusal(file, capsys) == f"fleet: Bad input: {file}{said}"


def replayed(urls: list[str], requests: int, service_s: float, meddle: Callable[[], None]) -> dict[str, object]:
    """A replay whose jobs all run for service_s, with something done once all of them are placed."""
    plan = ReplayPlan(tuple(urls), 1, ("gpu",), output_rate=1 / service_s)
    done = False

    def progress(report: Report) -> None:
        nonlocal done
        if report.placed == requests and not done:
            done = True
            meddle()

    return asyncio.run(Replay(plan, [Request(0, "", 0, 1)] * requests, progress).run())


def test_jobs_of_a_lost_node_are_counted_as_lost_and_fail_nothing(shards: Shards, replicas: Replicas) -> None:
    register(shards, "stays", "gpu", slots=2)
    register(shards, "goes", "gpu", slots=2)
    urls = replicas(2)

    def lose() -> None:
        shards.redis.zadd(f"{shards.of_node('goes')}:nodes", {"goes": 1})
        assert shards.reap(shards.of_node("goes")) == 1

    report = replayed(urls, 4, 0.5, lose)
    assert (report["placed"], report["lost"], report["finish_failed"]) == (4, 2, 0)
    assert Counter(job["state"] for job in recorded_jobs(shards)) == {"succeeded": 2, "failed": 2}


def test_an_attempt_that_another_has_followed_is_lost(shards: Shards, replicas: Replicas) -> None:
    register(shards, "n1", "gpu", slots=2)

    def follow() -> None:
        for job in recorded_ids(shards):
            shards.redis.hincrby(shards.job(job), "fence", 1)

    report = replayed(replicas(1), 2, 0.5, follow)
    assert (report["lost"], report["finish_failed"]) == (2, 0)


def test_a_job_that_ended_otherwise_than_told_is_a_failure(shards: Shards, replicas: Replicas) -> None:
    register(shards, "n1", "gpu", slots=2)

    def cancel() -> None:
        for job in recorded_ids(shards):
            assert fcall(shards, "job_cancel", job) == ["cancelled"]

    report = replayed(replicas(1), 2, 0.5, cancel)
    assert (report["lost"], report["finish_failed"]) == (0, 2)
