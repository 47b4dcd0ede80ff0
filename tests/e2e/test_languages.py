"""Languages from end to end: a node's file of services, a replica of its own, and requests in several spellings."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.dev.process import spawn_bound, stop
from tests.e2e.conftest import FLEET, wait_until
from tests.sharded import Shards

SERVICES = """
[[services]]
service = "asr"
languages = ["zh-CN", "en-US"]

[[services]]
service = "nmt"
rule = "any_to_any"
languages = ["zh", "en", "ja"]
blocked = ["zh-CN>ja"]

[[services]]
service = "tts"
languages = ["en", "ja"]
"""


@pytest.fixture
def interpreter(redis_url: str, shards: Shards, tmp_path: Path) -> Iterator[None]:
    """A demo node that recognises, translates and speaks; it is there before the replica."""
    path = tmp_path / "services.toml"
    path.write_text(SERVICES, "utf-8")
    options = ("--id", "interpreter", "--slots", "4", "--services", str(path), "--redis-url", redis_url)
    limits = ("--cpu-max", "100", "--mem-max", "100")
    node: subprocess.Popen[bytes] = spawn_bound([str(FLEET), "node", "run", *options, *limits, "--demo"])
    wait_until(lambda: shards.redis.exists(shards.node("interpreter")), "the node has registered", 20)
    yield
    stop([node])


def asked(http: httpx.Client, src: str, tgt: str) -> httpx.Response:
    return http.post("/v1/jobs", json={"services": ["asr", "nmt", "tts"], "src": src, "tgt": tgt, "payload": {}})


@pytest.mark.usefixtures("interpreter")
def test_a_request_in_any_spelling_is_done_and_a_blocked_pair_is_impossible(http: httpx.Client) -> None:
    for src, tgt in (("zh", "en"), ("cmn_Hans", "EN-gb"), ("en", "ja-JP"), ("auto", "ja")):
        told = asked(http, src, tgt)
        assert told.status_code == 201, told.text
        job: dict[str, Any] = told.json()["job"]
        ended = http.get(f"/v1/jobs/{job['id']}?wait_ms=9000").json()["job"]
        assert (job["node"]["id"], ended["state"]) == ("interpreter", "succeeded")
    for src, tgt in (("zh-Hans", "ja-JP"), ("zh-TW", "en"), ("de", "en")):
        told = asked(http, src, tgt)
        assert (told.status_code, told.json()["class"]) == (422, "impossible"), told.text
