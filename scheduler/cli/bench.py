"""`fleet bench`: the table of figures, measured here and now."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.bench.figures import Figure
from scheduler.bench.rows import ROWS, row
from scheduler.bench.stage import Plan
from scheduler.dev.server import choose_server
from scheduler.errors import BadInput, FleetError


def _chosen(text: str | None) -> list[str]:
    keys = list(ROWS) if text is None else [key for key in text.replace(",", " ").split() if key]
    for key in keys:
        if key not in ROWS:
            raise BadInput("--rows", f"must be of {','.join(ROWS)}: there is no {key!r}")
    return keys


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _target(figure: Figure) -> str:
    if figure.at_least is not None:
        return f"≥ {_number(figure.at_least)}"
    return "" if figure.at_most is None else f"≤ {_number(figure.at_most)}"


def _table(figures: list[Figure]) -> Table:
    table = Table("", "what", box=None, pad_edge=False)
    for name in ("figure", "target"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column("range and absolutes", overflow="fold")
    for figure in figures:
        reached = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[figure.reached]
        span = f"{_number(min(figure.samples))} to {_number(max(figure.samples))}" if figure.samples else ""
        absolutes = ", ".join(f"{name} {_number(value)}" for name, value in figure.detail.items())
        value = figure.missing or "?" if figure.value is None else f"{_number(figure.value)} {figure.unit}"
        table.add_row(
            figure.row, figure.what, value, _target(figure), reached, "; ".join(filter(None, (span, absolutes)))
        )
    return table


def _measured(keys: list[str], plan: Plan, console: Console) -> Iterator[Figure]:
    for key in keys:
        if not console.is_terminal:
            click.echo(f"{key}: {ROWS[key][0]} …", err=True)
        with console.status(f"{key}: {ROWS[key][0]}"):
            try:
                yield from row(key)(plan)
            except (FleetError, OSError, TimeoutError) as error:
                yield Figure(row=key, what=ROWS[key][0], unit="", missing=f"not measured: {error}")


@click.command()
@click.option("--rows", help=f"only these, such as a,d [default: all of {','.join(ROWS)}]")
@click.option("--pairs", default=5, show_default=True, type=click.IntRange(1, 99), help="of subject and baseline")
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.2, 60), help="of one sample")
@click.option("--quick", is_flag=True, help="one short pair and small fleets: a look, no figures")
@click.option(
    "--peers-python", type=click.Path(path_type=Path), help="of the peers [default: .venv/peers/bin/python]"
)
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")
def bench(
    rows: str | None, pairs: int, seconds: float, *, quick: bool, peers_python: Path | None, as_json: bool
) -> None:
    """Measure this machine: ratios side by side on a private server. Takes minutes, and both of two cores.

    Exit status 1 if a row could not be measured; a target that is missed is a figure like any other.
    """
    keys = _chosen(rows)
    # a benchmark empties the server it measures: never the one of REDIS_URL
    choice, _ = choose_server({"PATH": os.environ.get("PATH", "")})
    plan = Plan(choice, pairs, seconds)
    if peers_python is not None:
        plan = replace(plan, peers_python=peers_python)
    if quick:
        plan = replace(plan, pairs=1, seconds=min(seconds, 0.5), quick=True)
    console = Console(stderr=True)
    click.echo(f"server: {choice.describe()}; {os.cpu_count()} processors", err=True)
    figures = list(_measured(keys, plan, console))
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(figure) | {"reached": figure.reached} for figure in figures]))
    else:
        Console().print(_table(figures))
    if any(figure.missing for figure in figures):
        raise click.exceptions.Exit(1)
