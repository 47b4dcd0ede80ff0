"""A real Prometheus asks a replica that asks for keys, with the lines of docs/deploying.md."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from tests.deploy.balancers import answers
from tests.deploy.serving import serving
from tests.deploy.test_prometheus import PROMETHEUS
from tests.e2e.conftest import FLEET, wait_until

PAGE = (PROMETHEUS.parents[1] / "docs" / "deploying.md").read_text("utf-8")
FILE = "/etc/prometheus/fleet.key"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_reads_its_key_from_a_file(redis_url: str, tmp_path: Path) -> None:
    (lines,) = re.findall(r"^```yaml\n(    authorization:\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (command,) = re.findall(rf"fleet (apikeys create .*) > {FILE}$", PAGE, re.MULTILINE)
    argv = [FLEET, *command.replace("'", "").split()]
    key = subprocess.run(argv, env={"REDIS_URL": redis_url}, capture_output=True, timeout=30, check=True).stdout
    (tmp_path / "fleet.key").write_bytes(key)
    with serving(["serve"], {"REDIS_URL": redis_url, "FLEET_AUTH": "required"}) as (url, _):
        assert httpx.get(f"{url}/metrics").status_code == 401
        config = (PROMETHEUS / "prometheus.yml").read_text("utf-8").replace("interval: 5s", "interval: 1s")
        config = config.replace("replica1:8080", url.removeprefix("http://"))
        config = config.replace("  - job_name: fleet\n", f"  - job_name: fleet\n{lines}")
        assert FILE in config
        (tmp_path / "prometheus.yml").write_text(config.replace(FILE, f"{tmp_path}/fleet.key"), "utf-8")
        shutil.copy(PROMETHEUS / "fleet.rules.yml", tmp_path)
        port = free_port()
        ours = ("--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}")
        process = spawn_bound(["prometheus", *ours], cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:
            api = f"http://127.0.0.1:{port}"
            wait_until(lambda: process.poll() is not None or answers(f"{api}/-/ready"), "Prometheus is ready", 30)

            def up() -> bool:
                found = httpx.get(f"{api}/api/v1/query", params={"query": 'sum(up{job="fleet"})'}, timeout=10).json()
                return bool(found["data"]["result"]) and found["data"]["result"][0]["value"][1] == "1"

            wait_until(up, "the replica is asked with the key", 30)
        finally:
            stop([process])
