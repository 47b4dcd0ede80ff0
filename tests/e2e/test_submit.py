"""`fleet submit` against a live replica: the exit status says what became of the job, stderr says why not."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from scheduler.dev.process import spawn_bound, stop
from scheduler.http.wire import JobBody
from tests.e2e.conftest import FLEET, Run, environ, fcall, free_ports_in_a_row, register, wait_until
from tests.sharded import Shards


def test_a_placed_job_is_told_in_words_and_in_json(
    fleet: Run, shards: Shards, http: httpx.Client, tmp_path: Path
) -> None:
    register(shards, "n1", "gpu asr:zh")
    url = ("--url", str(http.base_url))
    said = fleet("submit", *url, "--requires", "gpu asr:zh", "--id", "a").stdout
    job = http.get("/v1/jobs/default:a").json()["job"]
    assert said == f"default:a claimed on n1 at http://n1, pool default, fence {job['fence']}\n"
    file = tmp_path / "payload.json"
    file.write_text('{"text": "hello"}')
    options = "--requires gpu --priority 0 --session s --affinity sticky --max-attempts 1 --timeout-ms 6000 --json"
    options += f" --payload @{file} --ack-ms 5000 --retry-failed"
    told = json.loads(fleet("submit", *url, *options.split()).stdout)
    record = shards.redis.hgetall(shards.job(told["job"]["id"]))
    assert isinstance(record, dict)
    assert json.loads(record[b"payload"]) == {"text": "hello"}
    assert [int(record[name]) for name in (b"priority", b"max_attempts", b"timeout_ms")] == [0, 1, 6000]


def test_a_refusal_is_status_1_with_the_reasons_and_a_bad_request_2(
    fleet: Run, shards: Shards, http: httpx.Client
) -> None:
    register(shards, "n1", "gpu", slots=1)
    url = ("--url", str(http.base_url))
    fleet("submit", *url, "--requires", "gpu")
    done = fleet("submit", *url, "--requires", "gpu", status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("fleet: overloaded: every node that could take the job is full")
    done = fleet("submit", *url, "--requires", "other", "--json", status=1)
    assert json.loads(done.stdout)["class"] in {"impossible", "unavailable"}  # the fleet is young
    assert fleet("submit", *url, "--requires", "gpu", "--wait-ms", "60000").stdout.split()[1] == "waits"
    assert "(pool)" in fleet("submit", *url, "--requires", "gpu", "--pool", "nope", status=1).stderr
    assert "(requires" in fleet("submit", *url, status=2).stderr
    assert "--payload must be JSON" in fleet("submit", *url, "--payload", "{", status=2).stderr
    fleet("submit", "--url", f"http://127.0.0.1:{free_ports_in_a_row(1)}", "--requires", "gpu", status=1)


@pytest.mark.parametrize(("outcome", "status"), [("succeeded", 0), ("failed", 1)])
def test_waiting_follows_the_job_to_its_end(
    shards: Shards, redis_url: str, http: httpx.Client, outcome: str, status: int
) -> None:
    register(shards, "n1", "gpu")
    argv = [str(FLEET), "submit", "--url", str(http.base_url), "--requires", "gpu", "--wait"]
    with subprocess.Popen(argv, env=environ(redis_url), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        job, state, *_, fence = process.stdout.readline().split()
        assert state == "claimed"
        fcall(shards, "job_finish", job, fence, outcome, "done")
        last, _ = process.communicate(timeout=20)
    assert (process.returncode, last.split()[0], last.split()[-1]) == (status, outcome, "done")


def test_waiting_with_a_real_node_gives_its_result(fleet: Run, redis_url: str, http: httpx.Client) -> None:
    argv = [str(FLEET), "node", "run", "--id", "n1", "--slots", "2", "--capabilities", "gpu", "--demo",
            "--cpu-max", "100", "--mem-max", "100"]  # fmt: skip
    node = spawn_bound(argv, environ=environ(redis_url))
    try:
        wait_until(lambda: http.get("/v1/cluster").json()["nodes"]["ready"] == 1, "the node is there", 20)
        words = "--requires gpu --wait-ms 20000 --payload {} --wait --json"
        told = fleet("submit", "--url", str(http.base_url), *words.split())
    finally:
        stop([node])
    assert json.loads(told.stdout)["job"]["state"] == "succeeded"


def test_every_field_of_the_body_is_an_option() -> None:
    from scheduler.cli.submit import submit

    options = {parameter.name for parameter in submit.params}
    assert {name for name in JobBody.__struct_fields__ if name != "fallback"} <= options
    assert "no_fallback" in options
