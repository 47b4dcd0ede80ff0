"""`fleet schema`: the key map, with a live key for each pattern and the line of redis-cli that shows it."""

import click
import msgspec
from rich.console import Console
from rich.text import Text

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.store.schema import KEYS, KeyRow, examples


class KeyLine(msgspec.Struct, frozen=True):
    """One pattern of keys; `example` is a key that exists now, null where none does."""

    pattern: str
    type: str
    meaning: str
    example: str | None
    redis_cli: str


def _line(row: KeyRow, shard: str, example: str | None) -> KeyLine:
    key = example or row.pattern.replace("P", shard, 1)
    return KeyLine(row.pattern, row.kind, row.meaning.replace("`", ""), example, row.look(key))


def _show(console: Console, line: KeyLine) -> None:
    told = Text(line.pattern, "bold")
    told.append(f"  {line.type}", "cyan")
    told.append(f"  {line.meaning}", "default")
    console.print(told, highlight=False, soft_wrap=True)
    style = "default" if line.example else "dim"
    console.print(Text(f"    {line.redis_cli}{'' if line.example else '    none now'}", style), soft_wrap=True)


@click.command()
@click.option("--shard", "tag", help="the shard to take examples from [default: the first]")
@AS_JSON
@where
def schema(tag: str | None, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Every key that the fleet has in Redis: type, meaning, one that exists now, and how to look at it."""

    async def ask(fleet: OnRedis) -> tuple[str, dict[str, str] | None]:
        part = fleet.first if tag is None else fleet.tagged(tag)
        return part.functions.shard, await examples(part.functions.client, part.functions.shard)

    shard, found = on_redis(redis_url, namespace, ask)
    lines = [_line(row, shard, (found or {}).get(row.pattern)) for row in KEYS]
    if found is None:
        click.echo("fleet: this user may not list keys: there are no examples", err=True)
    if as_json:
        click.echo(msgspec.json.encode({"shard": shard, "keys": lines}))
        return
    console = Console()
    console.print(f"P is [bold]{shard}[/]", highlight=False)
    for line in lines:
        _show(console, line)
