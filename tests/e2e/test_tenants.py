"""`fleet tenants` and docs/tenants.md for real: what is typed there runs, and prints what the page says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scheduler.dev.server import EmbeddedServer
from tests.conftest import Topology
from tests.e2e.conftest import FLEET, Run, environ, place, register
from tests.e2e.page import lacking
from tests.sharded import Shards

PAGE = (Path(__file__).parents[2] / "docs" / "tenants.md").read_text("utf-8")
_BLOCK = re.compile(r"^```sh\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
NONE: dict[str, object] = {"quota": None, "in_force": {}, "leases": 0, "waiting": 0}


def test_quotas_are_put_shown_listed_and_removed(fleet: Run, shards: Shards) -> None:
    assert fleet("tenants").stdout == "no tenant has quotas, and none has jobs that wait\n"
    put = json.loads(
        fleet("tenants", "put", "acme", "--concurrent-jobs", "2", "--waiting-jobs", "0", "--json").stdout
    )
    quota = {"concurrent_jobs": 2, "waiting_jobs": 0}
    row = {"name": "acme", "quota": quota, "in_force": quota, "leases": 0, "waiting": 0}
    assert put == {"tenant": row, "tenants_version": put["tenants_version"]}
    assert {shards.redis.hget(f"{key}:tenants", "acme") for key in shards.keys} == {
        b'{"concurrent_jobs":2,"waiting_jobs":0}'
    }, "it is told once every shard decides by it"
    assert json.loads(fleet("tenants", "show", "acme", "--json").stdout) == put
    assert json.loads(fleet("tenants", "show", "new", "--json").stdout)["tenant"] == {"name": "new", **NONE}
    listed = json.loads(fleet("tenants", "list", "--json").stdout)
    assert listed == {"tenants": [row], "tenants_version": put["tenants_version"]}
    removed = json.loads(fleet("tenants", "remove", "acme", "--json").stdout)
    assert removed == {"tenant": "acme", "outcome": "removed"}
    assert fleet("tenants", "remove", "acme", status=1).stderr == "fleet: acme has no quotas of its own\n"


def test_what_a_tenant_has_is_shown(fleet: Run, http: httpx.Client, shards: Shards) -> None:
    register(shards, "n1", "gpu", slots=1)
    http.headers["x-fleet-tenant"] = "acme"
    assert place(http, "gpu").status_code == 201
    for _ in range(2):
        assert place(http, "gpu", wait_ms=60_000).status_code == 202
    (told,) = json.loads(fleet("tenants", "--json").stdout)["tenants"]
    assert told == {"name": "acme", **NONE, "leases": 1, "waiting": 2}
    assert re.search(r"^ acme +1 +- +2 +- +- +- +none of its own *$", fleet("tenants").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [("put", "a b"), ("put", "acme", "--requests-per-s", "0"), ("put", "acme", "--waiting-jobs", "x"), ("show", "é")],
)
def test_bad_words_end_with_2_and_change_nothing(fleet: Run, shards: Shards, words: tuple[str, ...]) -> None:
    assert fleet("tenants", *words, status=2).stderr
    assert not shards.redis.exists("fleet:{0}:tenants")


def lines() -> Iterator[tuple[list[str], list[str]]]:
    """The commands of each block, and what the page says that they print."""
    for block, said in _BLOCK.findall(PAGE):
        yield block.splitlines(), said.splitlines()


@pytest.mark.one_shard("prints what a fleet of one shard says")
@pytest.mark.skipif(not (shutil.which("redis-cli") and shutil.which("curl")), reason="no redis-cli, or no curl")
def test_the_page_prints_what_it_says(
    topology: Topology, server: EmbeddedServer, redis_url: str, shards: Shards, http: httpx.Client
) -> None:
    if not isinstance(topology, EmbeddedServer):
        pytest.skip("the page tells of one server")
    register(shards, "gpu-1", "gpu", slots=4)
    assert len(list(lines())) == 3
    for commands, told in lines():
        script = "\n".join(commands).replace("http://127.0.0.1:8080", str(http.base_url).rstrip("/"))
        script = script.replace(".venv/bin/fleet", str(FLEET)).replace("redis-cli", f"redis-cli -e -p {server.port}")
        done = subprocess.run(
            ["bash", "-ec", script],
            env=environ(redis_url),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, done.stderr)
        assert done.stdout.strip(), script
        assert list(lacking(told, done.stdout)) == [], (script, done.stdout)
