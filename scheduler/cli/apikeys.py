"""`fleet apikeys`: the keys that replicas let in, written to Redis itself; a key's text is shown once."""

import re
import secrets
import time
from typing import get_args

import click
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, tell, where
from scheduler.cli.events import local_time
from scheduler.domain.apikey import ApiKey, KeyId, Role, admitted, checked_key_id, key_text, new_key, rotated
from scheduler.errors import BadInput
from scheduler.store.apikeys import ApiKeys

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
YEARS_MS = 10 * 366 * 86_400_000


class KeyLine(msgspec.Struct, frozen=True):
    """One key without anything secret; a session of the dashboard has the `parent` that it was made with."""

    id: str
    tenant: str
    role: str
    node: str | None
    parent: str | None
    created_at_ms: int
    expires_at_ms: int | None
    expired: bool


def _duration_ms(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    ms = int(found[1]) * _UNITS_MS[found[2]] if found else 0
    if not 0 < ms <= YEARS_MS:
        raise BadInput(option, "must be a time such as 90s, 15m, 12h or 30d, up to ten years")
    return ms


def _now_ms() -> int:
    return int(time.time() * 1000)


def _keys(fleet: OnRedis) -> ApiKeys:
    return ApiKeys(fleet.first.functions.client, fleet.first.functions.shard)


def _give(id_: KeyId, secret: str, key: ApiKey, words: str, *, as_json: bool) -> None:
    """The key alone on stdout, so that it can go into a file; what a person should know on stderr."""
    text = key_text(id_, secret)
    tell(text, {"id": id_, "key": text, "tenant": key.tenant, "role": key.role, "node": key.node,
                "expires_at_ms": key.expires_at_ms}, as_json=as_json)  # fmt: skip
    click.echo(f"fleet: {words}; it is shown this once", err=True)


def _missing(id_: KeyId) -> click.exceptions.Exit:
    click.echo(f"fleet: no key {id_} is known", err=True)
    return click.exceptions.Exit(1)


@click.group()
def apikeys() -> None:
    """Who may ask the replicas for what. Each key has a role, and but for an admin a tenant."""


@apikeys.command()
@click.option("--tenant", required=True, help="whose jobs, pools and nodes; * for all")
@click.option("--role", required=True, type=click.Choice(get_args(Role)))
@click.option("--node", help="the one node that a key of the role node is for")
@click.option("--expires", help="end after this time, such as 30d, 12h or 15m [default: never]")
@AS_JSON
@where
def create(
    tenant: str,
    role: Role,
    node: str | None,
    expires: str | None,
    redis_url: str | None,
    namespace: str | None,
    *,
    as_json: bool,
) -> None:
    """Make a key and print it. With the first one replicas begin to ask for keys."""
    secret, id_ = secrets.token_urlsafe(32), KeyId(secrets.token_hex(8))
    key = new_key(secret, tenant, role, _now_ms(), node=node, expires_ms=_duration_ms("--expires", expires))

    async def ask(fleet: OnRedis) -> str:
        return await fleet.first.functions.apikey_put(id_, key)

    if (word := on_redis(redis_url, namespace, ask)) != "stored":
        click.echo(f"fleet: no key was made, {id_} {word}: try again", err=True)
        raise click.exceptions.Exit(1)
    _give(id_, secret, key, f"key {id_} of the role {role}, tenant {tenant}", as_json=as_json)


@apikeys.command(name="list")
@AS_JSON
@where
def list_keys(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Every key, sessions of the dashboard among them; no secret is kept that could be shown."""
    now_ms = _now_ms()
    held = on_redis(redis_url, namespace, lambda fleet: _keys(fleet).all())
    lines = [
        KeyLine(
            id_, key.tenant, key.role, key.node, key.parent, key.created_at_ms, key.expires_at_ms,
            # as a replica would judge it, so also a session whose key is gone
            expired=admitted(held, KeyId(id_), key.hash, now_ms) is None,
        )
        for id_, key in sorted(held.items(), key=lambda pair: (pair[1].created_at_ms, pair[0]))
    ]  # fmt: skip
    if as_json:
        click.echo(msgspec.json.encode({"keys": lines}))
        return
    if not lines:
        click.echo("there is no key")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("id", "tenant", "role", "session of", "created", "ends"):
        # an id is what revoke wants to be told: whole, however narrow the screen; a day has ten characters
        whole = name in {"id", "session of", "created"}
        table.add_column(name, overflow="fold", no_wrap=whole, min_width=10 if name == "ends" else None)
    for line in lines:
        ends = "never" if line.expires_at_ms is None else local_time(line.expires_at_ms)[:19]
        created = local_time(line.created_at_ms)[:10]
        told = "[red]ended[/]" if line.expired else ends
        role = line.role if line.node is None else f"{line.role} {line.node}"
        table.add_row(line.id, line.tenant, role, line.parent or "", created, told)
    Console().print(table)


@apikeys.command()
@click.argument("id_", metavar="ID")
@click.option("--grace", help="the old secret goes on for this time, such as 15m [default: it ends at once]")
@AS_JSON
@where
def rotate(id_: str, grace: str | None, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Give a key a new secret and print it. Sessions that were made with the old one end with it."""
    known = checked_key_id("ID", id_)
    grace_ms, secret = _duration_ms("--grace", grace) or 0, secrets.token_urlsafe(32)

    async def ask(fleet: OnRedis) -> tuple[str, ApiKey | None]:
        held = (await _keys(fleet).all()).get(known)
        if held is None:
            return "unknown", None
        if held.parent is not None:
            raise BadInput("ID", "is a session's key: revoke it, or rotate the key that it was made with")
        fresh = rotated(held, secret, _now_ms(), grace_ms)
        return await fleet.first.functions.apikey_put(known, fresh, held.hash), fresh

    word, key = on_redis(redis_url, namespace, ask)
    if word == "changed":
        click.echo(f"fleet: {known} was rotated by somebody else meanwhile: nothing was changed", err=True)
        raise click.exceptions.Exit(1)
    if key is None or word == "unknown":
        raise _missing(known)
    until = f"the old secret ends in {grace}" if grace else "the old secret has ended"
    _give(known, secret, key, f"key {known} has a new secret, {until}", as_json=as_json)


@apikeys.command()
@click.argument("id_", metavar="ID")
@AS_JSON
@where
def revoke(id_: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """End a key, and all sessions that were made with it, on every replica within one refresh."""
    known = checked_key_id("ID", id_)
    if on_redis(redis_url, namespace, lambda fleet: fleet.first.functions.apikey_remove(known)) == "unknown":
        raise _missing(known)
    tell(f"revoked {known}", {"id": known, "outcome": "revoked"}, as_json=as_json)
