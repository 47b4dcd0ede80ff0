"""What a `REDIS_URL` names: one server, a cluster, or a service that Sentinel watches; connects to nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from scheduler.errors import BadInput

Kind = Literal["server", "cluster", "sentinel"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}
_PORTS: dict[Kind, int] = {"server": 6379, "cluster": 6379, "sentinel": 26379}
# What else redis-py would take from an address, such as timeouts and retries, is ours to decide.
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
_SENTINELS = ("sentinel_username", "sentinel_password")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect. `options` are redis-py's own: user, password, database, certificates, the path of a socket.

    `hosts` is the server, some nodes of the cluster, or the sentinels; empty for a socket. With `tls` the server's
    certificate and name are verified unless the options say otherwise.
    """

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]

    @property
    def tls_options(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name.startswith("ssl_")}


def _refused(what: str) -> BadInput:
    return BadInput("REDIS_URL", what)


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError as error:
        # what it says of the text may be a part of a password
        raise _refused(
            "names a host or port that cannot be read; in a password / ? # @ are %2F %3F %23 %40"
        ) from error
    return host or "localhost", default_port if port is None else port


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise _refused("must name the database by its number")
    return int(text)


def _query(text: str, known: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in parse_qs(text, keep_blank_values=True).items():
        if name not in known:
            # after a ? that is not spelled %3F it is a part of the password
            told = name if name.isidentifier() else "of that name"
            raise _refused(f"knows no parameter {told}, only {', '.join(known)}")
        found[name] = values[-1]
    if "ssl_check_hostname" in found:
        said = _TRUTHS.get(found["ssl_check_hostname"].lower())
        if said is None:
            raise _refused("must say yes or no to ssl_check_hostname")
        found["ssl_check_hostname"] = said
    if found.get("ssl_cert_reqs", "none") not in {"none", "required"}:
        raise _refused("must say none or required to ssl_cert_reqs")
    return found


def read_address(url: str) -> Address:
    """The address that a URL spells; raises BadInput for what it cannot mean."""
    try:
        split = urlsplit(url)
    except ValueError as error:
        raise _refused(f"cannot be read: {error}") from error
    if split.scheme not in _SCHEMES:
        raise _refused(f"must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    kind, tls = _SCHEMES[split.scheme]
    known = ("db", "username", "password", *(_TLS if tls else ()), *(_SENTINELS if kind == "sentinel" else ()))
    options = _query(split.query, known)
    sentinel_options = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINELS if name in options}
    user, _, hosts_text = split.netloc.rpartition("@")
    username, _, password = user.partition(":")
    options |= {name: unquote(value) for name, value in (("username", username), ("password", password)) if value}
    if split.scheme == "unix":
        if not split.path:
            raise _refused("must name the path of the socket")
        hosts: tuple[tuple[str, int], ...] = ()
        options["unix_socket_path"], database = unquote(split.path), ""
    else:
        hosts = tuple(_host(text, _PORTS[kind]) for text in hosts_text.split(","))
        if kind == "server" and len(hosts) > 1:
            raise _refused("must name one host; several are for redis+cluster:// and redis+sentinel://")
        database = split.path.strip("/")
    service = ""
    if kind == "sentinel":
        service, _, database = unquote(database).partition("/")
        if not service:
            raise _refused("must name the service that the sentinels watch: redis+sentinel://host:port/service")
    database = options.pop("db", database)
    if database:
        options["db"] = _database(database)
    if kind == "cluster" and options.pop("db", 0):
        raise _refused("must name no database but 0: a cluster has no other")
    return Address(kind, tls, hosts, service, options, sentinel_options)


def without_secrets(url: str) -> str:
    """The address for people to see: user, passwords and whatever else may hold one are left out."""
    told = re.sub(r"://.*@", "://…@", url)
    return re.sub(r"((?:^|[?&])\w*(?:password|username)=)[^&]*", r"\1…", told)
