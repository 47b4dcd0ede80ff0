"""Runs a command beside a container engine of its own: `python -m tests.container.engine pytest -m container`.

Root on Linux can start dockerd in namespaces of its own: nothing of it is seen outside, ports are published on that
loopback, and all of it ends with the command. The image is made from this machine's redis-server, for want of a
registry. Where an engine answers already, or none can be started, the command is run as it is, and this says why.
"""

import fcntl
import gc
import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound

IMAGE = "redis:of-this-machine"
DEADLINE_S = 30.0
_INSIDE = "FLEET_ENGINE_FOLDER"
_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# The network is the loopback alone: there is nothing to route and no table to write into.
_DOCKERD = ["dockerd", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--ip=127.0.0.1"]


class Unable(Exception):
    """There will be no engine"""


def silence(image: str | None = None) -> str | None:
    """Why no engine answers (or has the image), or None."""
    said = None
    # where nothing answers, the client leaves its socket open
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with closing(docker.from_env()) as client:
                client.ping()
                if image:
                    client.images.get(image)
        except ImageNotFound:
            said = f"the container engine has no image {image}: pull it, or name another in FLEET_TEST_IMAGE"
        except DockerException as error:
            said = f"no container engine answers: {error}"
        gc.collect()
    return said


def obstacle() -> str | None:
    """Why no engine can be started here, or None."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can start one"
    missing = [tool for tool in ("unshare", "dockerd", "redis-server", "ldd") if shutil.which(tool) is None]
    return f"not on PATH: {', '.join(missing)}" if missing else None


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # SIOCSIFFLAGS with IFF_UP
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1))


def files_of(binary: Path) -> list[str]:
    """The binary and what it is linked with, where the loader looks for it."""
    said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    return [str(binary), *(word for word in said.split() if word.startswith("/"))]


def server_image() -> bytes:
    """A file system with redis-server and nothing else, as a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in files_of(Path(shutil.which("redis-server") or "")):
            archive.add(Path(path).resolve(), arcname=path.lstrip("/"), recursive=False)
    return packed.getvalue()


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """dockerd with the image, its socket and all its files in the folder."""
    address = f"unix://{folder}/docker.sock"
    argv = [*_DOCKERD, "--host", address, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen([*argv, "--pidfile", f"{folder}/pid"], stdout=log, stderr=log)
    os.environ["DOCKER_HOST"] = address
    end = time.monotonic() + DEADLINE_S
    while silence():
        if daemon.poll() is not None or time.monotonic() > end:
            daemon.kill()
            raise Unable(f"dockerd did not start: {(folder / 'log').read_text('utf-8', 'replace')[-2_000:]}")
        time.sleep(0.1)
    with closing(docker.from_env()) as client:
        name, tag = IMAGE.split(":")
        changes = ['CMD ["redis-server"]', "EXPOSE 6379", "ENV PATH=/usr/local/bin:/usr/bin:/bin"]
        client.api.import_image_from_data(server_image(), repository=name, tag=tag, changes=changes)
    return daemon


def inside(folder: Path, command: list[str]) -> int:
    """In the namespaces: the engine, the command, and the end of both."""
    loopback_up()
    try:
        daemon = start(folder)
    except (Unable, DockerException, OSError) as error:
        print(f"no container engine: {error}", file=sys.stderr)
        return subprocess.run(command, check=False).returncode
    # its helper container would have to come from a registry; what it cleans up ends with the namespaces
    os.environ |= {"FLEET_TEST_IMAGE": IMAGE, "TESTCONTAINERS_RYUK_DISABLED": "true"}
    # also where we are in a container ourselves: the ports are on the loopback of these namespaces
    os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "docker_host"
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        daemon.terminate()
        daemon.wait(DEADLINE_S)


def main(command: list[str]) -> int:
    if folder := os.environ.pop(_INSIDE, ""):
        return inside(Path(folder), command)
    why = obstacle() if silence() else "one answers already"
    if why:
        print(f"no container engine is started: {why}", file=sys.stderr)
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="fleet-engine-") as own:
        again = [*_UNSHARE, sys.executable, "-m", "tests.container.engine", *command]
        return subprocess.run(again, env=os.environ | {_INSIDE: own}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
