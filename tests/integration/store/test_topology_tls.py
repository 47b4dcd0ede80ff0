"""TLS and users, on one server, a cluster and under Sentinel: verified by default, with the client's certificate."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scheduler.dev.cluster import EmbeddedCluster, ask
from scheduler.dev.sentinel import Watcher
from scheduler.dev.server import EmbeddedServer, free_port
from scheduler.store.client import Client, connect
from tests.integration.store.conftest import KINDS, choice_of

KEY = "fleet:{0}:n"
SECRET = "p%40ss%3Aw%2Frd"
PLAIN = "p@ss:w/rd"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)


class Certificates:
    """An authority, and a key that it has signed for 127.0.0.1 and localhost."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self.cert, self.key = folder / "ca.crt", folder / "one.crt", folder / "one.key"
        authority, request, names = folder / "ca.key", folder / "one.csr", folder / "names"
        short = ("-newkey", "rsa:2048", "-nodes")
        openssl("req", "-x509", *short, "-keyout", authority, "-out", self.ca, "-days", "2", "-subj", "/CN=authority")
        openssl("req", *short, "-keyout", self.key, "-out", request, "-subj", "/CN=one")
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", "utf-8")
        signing = ("-CA", self.ca, "-CAkey", authority, "-CAcreateserial", "-extfile", names, "-days", "2")
        openssl("x509", "-req", "-in", request, *signing, "-out", self.cert)

    @property
    def server_args(self) -> tuple[str, ...]:
        files = {"tls-cert-file": self.cert, "tls-key-file": self.key, "tls-ca-cert-file": self.ca}
        return tuple(word for name, path in files.items() for word in (f"--{name}", str(path)))

    @property
    def query(self) -> str:
        return f"ssl_ca_certs={self.ca}&ssl_certfile={self.cert}&ssl_keyfile={self.key}"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on PATH to make certificates with")
    return Certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "others")


@pytest.fixture(scope="module", params=KINDS)
def secure(request: pytest.FixtureRequest) -> str:
    """A kind of server that can TLS."""
    argv = [str(choice_of(request.param).binary), "--port", "0", "--tls-port", "1"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=5, check=False).stdout
    # one that can asks for the certificate that is missing here
    if "Failed to configure TLS" not in said:
        pytest.skip(f"the {request.param} server is built without TLS: {said.strip()[-80:]}")
    return str(request.param)


@pytest.fixture(scope="module")
def tls_port(secure: str, ours: Certificates) -> Iterator[int]:
    port = free_port()
    with EmbeddedServer(
        choice_of(secure), args=("--tls-port", str(port), "--bind", "127.0.0.1", "127.0.0.2", *ours.server_args)
    ):
        yield port


async def answers(client: Client) -> None:
    try:
        await client.execute_command("SET", KEY, 1)
        assert await client.execute_command("INCR", KEY) == 2
    finally:
        await client.aclose()


async def test_a_server_is_verified_and_asks_for_the_clients_certificate(tls_port: int, ours: Certificates) -> None:
    await answers(connect(f"rediss://127.0.0.1:{tls_port}?{ours.query}"))
    await answers(connect(f"rediss://localhost:{tls_port}?{ours.query}"))
    with pytest.raises(redis.ConnectionError):
        await answers(connect(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={ours.ca}"))
    # without TLS the port does not even speak
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        await answers(connect(f"redis://127.0.0.1:{tls_port}", timeout_ms=500))


async def test_another_authority_and_another_name_are_refused(
    tls_port: int, ours: Certificates, others: Certificates
) -> None:
    at = f"rediss://127.0.0.1:{tls_port}"
    for query in (others.query, f"ssl_certfile={ours.cert}&ssl_keyfile={ours.key}"):
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            await answers(connect(f"{at}?{query}"))
    with pytest.raises(redis.ConnectionError, match="IP address mismatch"):
        await answers(connect(f"rediss://127.0.0.2:{tls_port}?{ours.query}"))
    await answers(connect(f"rediss://127.0.0.2:{tls_port}?{ours.query}&ssl_check_hostname=no"))
    await answers(connect(f"{at}?{ours.query}&ssl_cert_reqs=none"))


async def test_a_cluster_and_its_bus_over_tls(secure: str, ours: Certificates, others: Certificates) -> None:
    def args() -> tuple[str, ...]:
        return ("--tls-port", str(free_port()), "--tls-cluster", "yes", *ours.server_args)

    with EmbeddedCluster(choice_of(secure), args=args) as cluster:
        ports = [ask(server, "CONFIG", "GET", "tls-port")[b"tls-port"].decode() for server in cluster.servers]
        at = f"rediss+cluster://127.0.0.1:{ports[0]}"
        client = connect(f"{at}?{ours.query}")
        keys = [f"fleet:{{{i}}}:n" for i in range(8)]
        assert {await client.primary_of(key) for key in keys} == {f"127.0.0.1:{port}" for port in ports}
        for key in keys:
            assert await client.execute_command("INCR", key) == 1
        await client.aclose()
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            await answers(connect(f"{at}?{others.query}"))


async def test_sentinel_and_its_server_over_tls(secure: str, ours: Certificates, others: Certificates) -> None:
    port, watching = free_port(), free_port()
    files = [f"{name.removeprefix('--')} {path}" for name, path in zip(*[iter(ours.server_args)] * 2, strict=True)]
    lines = (f"sentinel monitor fleet 127.0.0.1 {port} 1", f"tls-port {watching}", "tls-replication yes", *files)
    with (
        EmbeddedServer(choice_of(secure), args=("--tls-port", str(port), *ours.server_args)),
        Watcher(choice_of(secure), lines),
    ):
        at = f"rediss+sentinel://127.0.0.1:{watching}/fleet"
        await answers(connect(f"{at}?{ours.query}"))
        with pytest.raises(redis.ConnectionError, match=r"No master found.*certificate verify failed"):
            await answers(connect(f"{at}?{others.query}"))


def only(server: EmbeddedServer, user: str) -> None:
    """Nobody but this user gets in from now on."""
    ask(server, "ACL", "SETUSER", user, "on", f">{PLAIN}", "~*", "&*", "+@all")
    ask(server, "ACL", "SETUSER", "default", "off")


async def test_a_user_and_a_password_for_a_server(kind: str) -> None:
    with EmbeddedServer(choice_of(kind)) as server:
        only(server, "fleet")
        await answers(connect(f"redis://fleet:{SECRET}@127.0.0.1:{server.port}"))
        for user in ("", f"fleet:{SECRET}x@", f"other:{SECRET}@"):
            with pytest.raises((redis.AuthenticationError, redis.ResponseError)):
                await answers(connect(f"redis://{user}127.0.0.1:{server.port}"))


async def test_a_user_and_a_password_for_every_node_of_a_cluster(kind: str) -> None:
    with EmbeddedCluster(choice_of(kind)) as cluster:
        for server in cluster.servers:
            only(server, "fleet")
        client = connect(cluster.url.replace("://", f"://fleet:{SECRET}@"))
        for i in range(8):
            assert await client.execute_command("INCR", f"fleet:{{{i}}}:n") == 1
        await client.aclose()
        for user in ("", f"fleet:{SECRET}x@"):
            with pytest.raises(redis.RedisError, match=r"(?i)auth|invalid username"):
                await answers(connect(cluster.url.replace("://", f"://{user}")))


async def test_a_user_for_the_sentinels_and_one_for_the_server(kind: str) -> None:
    with EmbeddedServer(choice_of(kind)) as server:
        only(server, "fleet")
        lines = (
            f"sentinel monitor fleet 127.0.0.1 {server.port} 1",
            "sentinel auth-user fleet fleet",
            f"sentinel auth-pass fleet {PLAIN}",
        )
        with Watcher(choice_of(kind), lines) as watcher:
            only(watcher, "watch")
            at = f"redis+sentinel://fleet:{SECRET}@127.0.0.1:{watcher.port}/fleet"
            await answers(connect(f"{at}?sentinel_username=watch&sentinel_password={SECRET}"))
            for query in ("", f"?sentinel_username=watch&sentinel_password={SECRET}x"):
                with pytest.raises(redis.RedisError, match=r"(?i)auth|invalid username"):
                    await answers(connect(at + query))
