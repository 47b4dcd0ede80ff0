"""`fleet audit`: who changed what, read from Redis itself."""

import click

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.cli.events import kinds_in, showing, tail
from scheduler.store.events import Event


@click.command()
@click.option("-f", "--follow", is_flag=True, help="go on with what is done, until Ctrl-C")
@click.option("--by", help="only by this one: a key (key:<id>), a person (cli:<user>@<host>)")
@click.option("--kind", "kinds", multiple=True, help="only this kind; may be given again, or with commas between")
@click.option(
    "--count", default=50, show_default=True, type=click.IntRange(0, 100_000), help="how many to begin with"
)
@AS_JSON
@where
def audit(
    by: str | None,
    kinds: tuple[str, ...],
    count: int,
    redis_url: str | None,
    namespace: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what operators did and who it was, the newest at the end. With --json each is an object in a line."""
    asked = kinds_in(kinds)

    def wanted(event: Event) -> bool:
        return (not asked or event.kind in asked) and (by is None or event.fields.get("by") == by)

    async def run(fleet: OnRedis) -> None:
        await tail([shard.audit for shard in fleet.shards], wanted, count, showing(as_json=as_json), follow=follow)

    on_redis(redis_url, namespace, run)
