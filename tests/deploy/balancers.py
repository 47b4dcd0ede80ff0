"""A real balancer with the configuration that is deployed, in front of three real replicas."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from tests.e2e.conftest import FLEET, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
# Debian keeps them where only root looks
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
_PORTS = (8000, 8080, 8081, 8082)

_NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/fleet.conf;
}}
"""


def tool(name: str) -> str | None:
    return shutil.which(name, path=_PATH)


def on_ports(conf: Path, ports: list[int]) -> str:
    """The configuration as it is deployed, on the ports of a test."""
    text = conf.read_text("utf-8")
    for old, new in zip(_PORTS, ports, strict=True):
        assert text.count(f"127.0.0.1:{old}") == 1
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return text


def nginx(folder: Path, ports: list[int], connections: int = 512) -> list[str]:
    """The command that runs it on these ports: its own, then those of the replicas."""
    (folder / "fleet").mkdir()
    shutil.copy(DEPLOY / "nginx" / "routes.conf", folder / "fleet" / "routes.conf")
    (folder / "fleet.conf").write_text(on_ports(DEPLOY / "nginx" / "fleet.conf", ports), "utf-8")
    (folder / "nginx.conf").write_text(
        _NGINX.format(folder=folder, connections=connections, files=2 * connections), "utf-8"
    )
    return [str(tool("nginx")), "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]


def haproxy(folder: Path, ports: list[int]) -> list[str]:
    (folder / "haproxy.cfg").write_text(on_ports(DEPLOY / "haproxy" / "haproxy.cfg", ports), "utf-8")
    return [str(tool("haproxy")), "-db", "-f", f"{folder}/haproxy.cfg"]


BALANCERS: dict[str, Callable[..., list[str]]] = {"nginx": nginx, "haproxy": haproxy}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.TransportError:
        return False


@dataclass
class Front:
    """The balancer's address and the replicas behind it."""

    url: str
    redis_url: str
    ports: list[int]
    replicas: list["subprocess.Popen[bytes]"]

    def start(self, port: int) -> "subprocess.Popen[bytes]":
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        return spawn_bound([FLEET, "serve", "--redis-url", self.redis_url, "--port", str(port)], environ=environ)

    def wait_ready(self, port: int) -> None:
        wait_until(partial(answers, f"http://127.0.0.1:{port}/readyz"), f"replica on {port}", 30)

    def restart(self, number: int) -> None:
        """As an operator does: SIGTERM, its end, a new one on the same port, its readiness."""
        self.replicas[number].send_signal(signal.SIGTERM)
        assert self.replicas[number].wait(20) == -signal.SIGTERM
        self.replicas[number] = self.start(self.ports[number])
        self.wait_ready(self.ports[number])


@contextmanager
def running(name: str, redis_url: str, folder: Path, **options: int) -> Iterator[Front]:
    listen, *ports = (free_port() for _ in range(4))
    front = Front(f"http://127.0.0.1:{listen}", redis_url, ports, [])
    balancer: list[subprocess.Popen[bytes]] = []
    try:
        front.replicas.extend(map(front.start, ports))
        for port in ports:
            front.wait_ready(port)
        # workers go with their master, which a SIGKILL would not let
        argv = BALANCERS[name](folder, [listen, *ports], **options)
        balancer.append(spawn_bound(argv, death_signal=15, stderr=subprocess.DEVNULL))
        wait_until(lambda: balancer[0].poll() or answers(f"{front.url}/v1/cluster"), name)
        assert balancer[0].poll() is None, f"{name} has ended"
        yield front
    finally:
        stop([*balancer, *front.replicas])
