"""`fleet schema` on a fleet at work: each kind of key that exists is shown by one that exists, and its line works."""

import json
import shlex
import shutil
import subprocess

import httpx
import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.store.schema import KEYS
from tests.e2e.conftest import Run, fcall, place, register
from tests.sharded import Shards

pytestmark = pytest.mark.one_shard("names the keys of one shard")


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not on PATH")
def test_each_example_exists_and_its_line_shows_it(
    fleet: Run, client: redis.Redis, shards: Shards, http: httpx.Client, server: EmbeddedServer
) -> None:
    register(shards, "n1", "asr:zh gpu", slots=1)
    fcall(shards, "pool_put", "gold", '{"selector":{"all":true}}')
    assert place(http, "gpu", session="a:b", affinity="sticky", deliver="inbox").status_code == 201
    assert place(http, "gpu", wait_ms=60_000).status_code == 202
    told = json.loads(fleet("schema", "--json").stdout)
    assert told["shard"] == "fleet:{0}"
    assert [line["pattern"] for line in told["keys"]] == [row.pattern for row in KEYS]
    shown = {line["pattern"]: line for line in told["keys"] if line["example"]}
    assert shown.keys() >= {"P", "P:node:<id>", "P:node:<id>:leases", "P:node:<id>:inbox", "P:nodes", "P:waiting",
                            "P:queue:<demand>:<tenant>", "P:pending", "P:cap:<token>", "P:pool:<name>", "P:pools",
                            "P:settled", "P:changed", "P:job:<id>", "P:leases", "P:session:<tenant>:<id>",
                            "P:events"}  # fmt: skip
    for line in shown.values():
        assert client.type(line["example"]) == line["type"].encode()
        program, *words = shlex.split(line["redis_cli"])
        argv = [program, "-e", "-p", str(server.port), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout.strip() == "") == (0, False), line
    absent = next(line for line in told["keys"] if line["pattern"] == "P:moved")
    assert absent["redis_cli"] == "redis-cli ZRANGE 'fleet:{0}:moved' 0 9 WITHSCORES"


def test_people_see_what_there_is_and_what_not(fleet: Run, shards: Shards) -> None:
    register(shards, "n1", "gpu")
    lines = [line.strip() for line in fleet("schema").stdout.splitlines()]
    assert lines[0] == "P is fleet:{0}"
    assert "redis-cli HGETALL 'fleet:{0}:node:n1'" in lines
    assert "redis-cli ZRANGE 'fleet:{0}:lost' 0 9 WITHSCORES    none now" in lines
    assert "no shard {nowhere}" in fleet("schema", "--shard", "nowhere", status=1).stderr
