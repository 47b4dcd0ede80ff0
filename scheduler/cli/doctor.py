"""`fleet doctor`: looks at all that a fleet stands on, and says what to do about what it finds."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import click
import httpx
import msgspec
from rich.console import Console
from rich.text import Text

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.cli.diagnosis import Finding, of_fleet, of_server, of_shard, of_user
from scheduler.cli.settings import settings_with
from scheduler.errors import FleetError
from scheduler.store.address import read_address
from scheduler.store.health import Health
from scheduler.store.library import read_library

SNAPSHOT_OLD_MS = 2_000
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


async def _examined(fleet: OnRedis, *, cluster: bool) -> list[Finding]:
    health, library = Health(fleet.first.functions.client), read_library()
    found = [f for server in await health.servers() for f in of_server(server, library, cluster=cluster)]
    facts = [await health.shard(shard.tag, shard.functions.shard, shard.views) for shard in fleet.shards]
    for shard in facts:
        found += of_shard(shard, facts[0], fleet.tags, library)
    return [*found, of_fleet(facts), *of_user(await health.user(fleet.first.functions.shard))]


async def _replica(url: str) -> list[Finding]:
    async with httpx.AsyncClient(base_url=url, timeout=5) as client:
        try:
            ready = await client.get("/readyz")
            cluster = (await client.get("/v1/cluster")).json() if ready.is_success else {}
            said = "" if ready.is_success else str(ready.json().get("detail", ready.status_code))
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            fix = "is it running, and is this its address? `fleet serve`"
            return [Finding("replica", "fail", url, f"it does not answer: {str(error) or type(error).__name__}", fix)]
    if not ready.is_success:
        return [Finding("replica", "fail", url, f"it is not ready: {said}", "mend that; it becomes ready by itself")]
    age_ms = int(cluster.get("snapshot", {}).get("age_ms", 0))
    found = [Finding("replica", "ok", url, "it is ready")]
    if age_ms > SNAPSHOT_OLD_MS:
        fix = "is Redis slow (`SLOWLOG GET`), or the replica short of processor?"
        return [*found, Finding("snapshot", "warn", url, f"its snapshot is {age_ms} ms old", fix)]
    return [*found, Finding("snapshot", "ok", url, f"its snapshot is {age_ms} ms old")]


async def _replicas(urls: Sequence[str]) -> list[Finding]:
    return [finding for found in await asyncio.gather(*map(_replica, urls)) for finding in found]


def _told_once(findings: Sequence[Finding]) -> list[Finding]:
    """What holds alike at several places is one line for people."""
    places: dict[tuple[str, ...], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.check, finding.level, finding.said, finding.fix), []).append(finding.at)
    alike = {(f.check, f.level, f.said, f.fix): f for f in findings}
    return [msgspec.structs.replace(finding, at=" ".join(places[key])) for key, finding in alike.items()]


def _show(console: Console, findings: Sequence[Finding]) -> None:
    for finding in _told_once(findings):
        line = Text(f"{finding.level:<5}", _STYLES[finding.level])
        line.append(f"{finding.check:<13} {finding.at}: {finding.said}", "default")
        console.print(line, soft_wrap=True, highlight=False)
        if finding.fix and finding.level != "ok":
            console.print(Text(f"     {'':<13} {finding.fix}", "dim"), soft_wrap=True, highlight=False)
    counts = Counter(finding.level for finding in findings)
    console.print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures", highlight=False)


@click.command()
@click.option("--url", "urls", multiple=True, help="a replica to look at, too; may be given again")
@AS_JSON
@where
def doctor(urls: tuple[str, ...], redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Look at servers, library, shards, clocks, rights, nodes and jobs; what is wrong comes with its fix.

    Changes nothing. Exit status 1 if anything fails; warnings do not count.
    """
    cluster = read_address(settings_with(redis_url, namespace).redis_url).kind == "cluster"
    try:
        findings = on_redis(redis_url, namespace, lambda fleet: _examined(fleet, cluster=cluster))
    except FleetError as error:
        fix = "is REDIS_URL right, does the server run, may this user ask?"
        findings = [Finding("reach", "fail", "Redis", str(error), fix)]
    findings += asyncio.run(_replicas([url.rstrip("/") for url in urls]))
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        click.echo(msgspec.json.encode({"ok": not failed, "findings": findings}))
    else:
        _show(Console(), findings)
    if failed:
        raise click.exceptions.Exit(1)
