"""`fleet settings`: every setting with its variable, range and meaning, and what holds here."""

import click
import msgspec
from rich.console import Console
from rich.text import Text

from scheduler.cli.asking import AS_JSON
from scheduler.cli.settings import settings_with
from scheduler.settings import SETTINGS
from scheduler.store.address import without_secrets


class SettingLine(msgspec.Struct, frozen=True):
    """One setting; `value` is what a replica that is started here would have, without passwords."""

    name: str
    variables: tuple[str, ...]
    value: object
    default: object
    range: str
    meaning: str


def _lines() -> list[SettingLine]:
    held = settings_with()
    lines: list[SettingLine] = []
    for known in SETTINGS.values():
        value = getattr(held, known.name)
        shown = without_secrets(value) if known.name == "redis_url" else value
        lines.append(
            SettingLine(
                known.name,
                known.variables,
                shown,
                known.default,
                known.range,
                known.meaning.replace("`", ""),
            )
        )
    return lines


@click.command()
@AS_JSON
def settings(*, as_json: bool) -> None:
    """Every setting: what it is here, from the environment and the file at FLEET_CONFIG, and what it may be."""
    lines = _lines()
    if as_json:
        click.echo(msgspec.json.encode({"settings": lines}))
        return
    console = Console()
    for line in lines:
        told = Text(line.variables[0], "bold")
        told.append(f" {line.value}", "cyan" if line.value != line.default else "default")
        told.append(f"  default {line.default}{', ' if line.range else ''}{line.range}", "dim")
        console.print(told, highlight=False, soft_wrap=True)
        console.print(Text(f"    {line.meaning}"), soft_wrap=True)
