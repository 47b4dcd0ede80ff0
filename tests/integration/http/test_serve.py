"""`fleet serve` as a process: it listens, it refuses to be open by accident, it goes when told."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from scheduler.dev.server import free_port


@contextmanager
def serving(redis_url: str, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    argv = [sys.executable, "-m", "scheduler.cli.main", "serve", "--redis-url", redis_url, "--port", str(port), *args]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate(timeout=10)


def wait_ready(process: subprocess.Popen[str], url: str) -> None:
    end = time.monotonic() + 20
    while True:
        assert process.poll() is None
        assert time.monotonic() < end
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


def test_serve_answers_on_its_port_and_stops_on_sigterm(redis_url: str) -> None:
    with serving(redis_url, "--namespace", "other") as (process, url):
        wait_ready(process, url)
        node = {"endpoint": "http://n1", "slots": 1, "capabilities": ["a"], "ttl_ms": 60_000}
        assert httpx.put(f"{url}/v1/nodes/n1", json=node).status_code == 201
        placed = httpx.post(f"{url}/v1/jobs", json={"requires": ["a"]})
        assert placed.status_code == 201
        assert placed.headers["content-type"] == "application/json"
        chunks = (b" " * 65_536 for _ in range(40))
        over = httpx.post(f"{url}/v1/jobs", content=chunks, headers={"content-type": "application/json"})
        assert over.status_code == 413
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
        assert process.returncode in {0, -signal.SIGTERM}
        assert "Traceback" not in errors


def test_a_client_that_leaves_a_long_poll_or_a_body_leaves_no_trace_in_the_log(redis_url: str) -> None:
    with serving(redis_url) as (process, url):
        wait_ready(process, url)
        node = {"endpoint": "http://n1", "slots": 1, "capabilities": ["a"], "ttl_ms": 60_000}
        httpx.put(f"{url}/v1/nodes/n1", json=node)
        job = httpx.post(f"{url}/v1/jobs", json={"requires": ["a"]}).json()["job"]["id"]
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/v1/jobs/{job}?wait_ms=60000", timeout=0.3)

        def half() -> Iterator[bytes]:
            yield b'{"requires":'
            raise ConnectionAbortedError

        with pytest.raises(ConnectionAbortedError):
            httpx.post(f"{url}/v1/jobs", content=half(), headers={"content-type": "application/json"})
        assert httpx.get(f"{url}/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
        assert "Traceback" not in errors
        assert "request_failed" not in errors


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_beyond_the_loopback_it_refuses_to_start_without_authentication(redis_url: str, host: str) -> None:
    with serving(redis_url, "--host", host) as (process, _):
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("fleet: ")
    assert "FLEET_AUTH=off" in errors
    assert "fleet apikeys create" in errors


def test_it_serves_beyond_the_loopback_when_told_to_and_says_so(redis_url: str) -> None:
    # not an address that is known to be the loopback's, so the flag is asked for; yet nothing but it is bound
    with serving(redis_url, "--host", "127.1") as (process, _):
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, "FLEET_AUTH=off" in errors) == (2, True)
    with serving(redis_url, "--host", "127.1", "--insecure-no-auth") as (process, url):
        wait_ready(process, url)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=15)
    assert "without any authentication" in errors


def test_a_bad_setting_is_named(redis_url: str) -> None:
    with serving(redis_url, "--redis-url", "http://x") as (process, _):
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.startswith("fleet: ")
    assert "REDIS_URL" in errors
