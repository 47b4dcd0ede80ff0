from typing import Any

import pytest

from scheduler.errors import BadInput
from scheduler.store.address import read_address, without_secrets
from scheduler.store.client import SentinelClient, ServerClient, connect
from scheduler.store.cluster import ClusterClient


@pytest.mark.parametrize(
    ("url", "kind", "tls", "hosts", "service", "options"),
    [
        ("redis://h", "server", False, [("h", 6379)], "", {}),
        ("redis://:p%40ss@h:1/3", "server", False, [("h", 1)], "", {"password": "p@ss", "db": 3}),
        ("redis://u:p@[::1]:7/", "server", False, [("::1", 7)], "", {"username": "u", "password": "p"}),
        ("rediss://h?ssl_ca_certs=/ca", "server", True, [("h", 6379)], "", {"ssl_ca_certs": "/ca"}),
        ("unix:///run/r.sock?db=2", "server", False, [], "", {"unix_socket_path": "/run/r.sock", "db": 2}),
        ("redis+cluster://a:1,b,c:3/0", "cluster", False, [("a", 1), ("b", 6379), ("c", 3)], "", {}),
        ("rediss+cluster://u@a:1", "cluster", True, [("a", 1)], "", {"username": "u"}),
        ("redis+sentinel://a,b:2/main", "sentinel", False, [("a", 26379), ("b", 2)], "main", {}),
        ("rediss+sentinel://a:1/main/4", "sentinel", True, [("a", 1)], "main", {"db": 4}),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no",
            "server",
            True,
            [("h", 6379)],
            "",
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
    ],
)
def test_what_an_address_means(
    url: str, kind: str, tls: object, hosts: list[tuple[str, int]], service: str, options: dict[str, Any]
) -> None:
    address = read_address(url)
    assert (address.kind, address.tls, list(address.hosts), address.service) == (kind, tls, hosts, service)
    assert address.options == options
    assert address.sentinel_options == {}


def test_the_sentinels_have_a_user_of_their_own() -> None:
    address = read_address("redis+sentinel://u:p@a/main?sentinel_username=su&sentinel_password=s%26p")
    assert address.options == {"username": "u", "password": "p"}
    assert address.sentinel_options == {"username": "su", "password": "s&p"}


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://h", "must begin with one of redis://, rediss://, unix://, redis\\+cluster://"),
        ("h:6379", "must begin with"),
        ("redis://a,b", "must name one host"),
        ("redis://[::1", "cannot be read"),
        ("redis+cluster://a]b", "cannot be read"),
        ("redis://h:x", "names a host or port that cannot be read"),
        ("redis://h:70000", "names a host or port that cannot be read"),
        ("redis://h/main", "must name the database by its number"),
        ("redis+cluster://a/1", "must name no database but 0"),
        ("redis+cluster://a?db=1", "must name no database but 0"),
        ("redis+sentinel://a:1", "must name the service"),
        ("unix://", "must name the path"),
        # a limit or a retry that we set is not to be undone by an address
        ("redis://h?socket_timeout=100", "knows no parameter socket_timeout, only db"),
        ("redis://h?retry_on_timeout=yes", "knows no parameter"),
        ("redis+cluster://h?max_connections=1000", "knows no parameter"),
        # asked of a connection without TLS it would only seem to be safe
        ("redis://h?ssl_ca_certs=/ca", "knows no parameter"),
        ("redis+cluster://h?sentinel_password=x", "knows no parameter"),
        ("rediss://h?ssl_cert_reqs=maybe", "must say none or required"),
        ("rediss://h?ssl_check_hostname=maybe", "must say yes or no"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str, what: str) -> None:
    with pytest.raises(BadInput, match=f"^Bad input: REDIS_URL {what}"):
        read_address(url)


async def test_each_kind_of_address_has_its_client() -> None:
    assert type(connect("redis://h")) is ServerClient
    assert type(connect("unix:///s")) is ServerClient
    assert type(connect("redis+sentinel://h/main")) is SentinelClient
    assert type(connect("rediss+cluster://h")) is ClusterClient


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/3", "redis://h:1/3"),
        ("rediss://user:p@ss@h?ssl_ca_certs=/ca", "rediss://…@h?ssl_ca_certs=/ca"),
        ("unix:///s?username=u&password=p&db=2", "unix:///s?username=…&password=…&db=2"),
        ("redis+sentinel://:p@a/main?sentinel_password=q", "redis+sentinel://…@a/main?sentinel_password=…"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
