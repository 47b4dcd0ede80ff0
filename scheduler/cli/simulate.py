"""`fleet simulate`: policies side by side on a simulated fleet, to choose d, refresh period and pool size."""

import json
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from scheduler.errors import BadInput
from scheduler.sim.outcome import Outcome
from scheduler.sim.plan import JOBS, LIMITS, SimPlan, checked, option
from scheduler.sim.plot import check_plot, draw
from scheduler.sim.policies import POLICIES
from scheduler.sim.sweep import RUNS_MAX, SWEPT, Sweep, Swept, label
from scheduler.sim.trace import read_trace


def _whole(name: str, text: str) -> int:
    low, high = (int(limit) for limit in LIMITS[name])
    plain = text.strip()
    value = int(plain) if plain.isascii() and plain.isdigit() and len(plain) <= 12 else None
    if value is None or not low <= value <= high:
        raise BadInput(option(name), f"must be a whole number from {low:,} to {high:,}, not {text!r}")
    return value


def _several(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, each once."""
    return tuple(dict.fromkeys(_whole(name, part) for part in text.split(",")))


def _slots(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    bounds = (_whole("slots", low), _whole("slots", high if dash else low))
    if bounds[0] > bounds[1]:
        raise BadInput("--slots", f"must be a number, or the lower and the higher as in 2-8, not {text!r}")
    return bounds


def _policies(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in POLICIES:
            raise BadInput("--policies", f"must be of {','.join(POLICIES)}: there is no {name!r}")
    return names


def _given(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(outcomes: list[Outcome]) -> Table:
    # narrow enough for a terminal of 80 columns
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("policy", no_wrap=True)
    for name in ("placed", "refused", "in vain", "conflicts %", "hottest ÷ mean", "round trips", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for told in outcomes:
        table.add_row(
            told.policy,
            *(f"{count:,}" for count in (told.placed, told.refused, told.refused_in_vain)),
            f"{told.conflicts_percent:.2f}",
            _given(told.hottest_to_mean, ".3f"),
            _given(told.round_trips, ".2f"),
            _given(told.wait_p50_ms, ".1f"),
            _given(told.wait_p99_ms, ".1f"),
        )
    return table


@dataclass(frozen=True, slots=True)
class _Asked:
    sweep: Sweep
    title: str


def _asked(given: dict[str, Any], trace: Path | None, policies: str) -> _Asked:
    values: dict[Swept, tuple[int, ...]] = {name: _several(name, given.pop(name)) for name in SWEPT}
    slots = _slots(given.pop("slots"))
    if given["jobs"] is not None and given["seconds"] is not None:
        raise BadInput("--seconds", "must not be given together with --jobs")
    if trace is not None and (given["jobs"], given["seconds"]) != (None, None):
        raise BadInput("--trace", "must not be given together with --jobs or --seconds")
    for name, value in given.items():
        if name in LIMITS and value is not None:
            checked(name, value)
    given["jobs"] = JOBS if given["jobs"] is None else given["jobs"]
    plan = SimPlan(slots=slots, trace=() if trace is None else tuple(read_trace(trace)), **given)
    sweep = Sweep(plan, _policies(policies), values)
    if sweep.runs > RUNS_MAX:
        raise BadInput("--policies", f"must be at most {RUNS_MAX} with all values combined, not {sweep.runs}")
    work = (
        f"trace {trace.name}"
        if trace
        else f"{plan.arrivals}, load {plan.load:g}, {plan.service} {plan.service_ms:g} ms"
    )
    bounds = f"{slots[0]}" if slots[0] == slots[1] else f"{slots[0]} to {slots[1]}"
    fixed = ", ".join(f"{name.replace('_', ' ')} {values[name][0]:,}" for name in SWEPT if len(values[name]) == 1)
    return _Asked(sweep, ", ".join(filter(None, (fixed, f"slots {bounds}", work))))


@click.command()
@click.option("--nodes", default="1000", show_default=True, help="1 to 100,000; several with commas")
@click.option("--slots", default="4", show_default=True, help="of each node: a number, or drawn evenly from MIN-MAX")
@click.option("--replicas", default="8", show_default=True, help="1 to 64; several with commas")
@click.option("--refresh-ms", default="200", show_default=True, help="between two refreshes; several with commas")
@click.option("--heartbeat-ms", default=1_000, show_default=True, help="between two heartbeats of a node")
@click.option("--rtt-ms", default=1.0, show_default=True, help="one round trip to Redis or to a node")
@click.option("--d", "d", default="3", show_default=True, help="candidates in our shortlist; several with commas")
@click.option("--load", default=0.85, show_default=True, help="work that comes ÷ slots")
@click.option(
    "--service", default="exponential", show_default=True, type=click.Choice(["exponential", "fixed", "lognormal"])
)
@click.option("--service-ms", default=1_000.0, show_default=True, help="mean service time of a job")
@click.option("--arrivals", default="poisson", show_default=True, type=click.Choice(["poisson", "bursts"]))
@click.option("--burst", default=200, show_default=True, help="jobs that come at once, with --arrivals bursts")
@click.option("--jobs", type=int, help=f"how many are counted [default: {JOBS:,}]")
@click.option("--seconds", type=float, help="simulated time instead of a number of jobs")
@click.option("--trace", type=click.Path(path_type=Path), help="CSV as fleet replay reads it, instead of drawn work")
@click.option("--input-rate", default=20_000.0, show_default=True, help="tokens/s read, with --trace")
@click.option("--output-rate", default=50.0, show_default=True, help="tokens/s written, with --trace")
@click.option("--policies", default=",".join(POLICIES), show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="write a picture to this PNG file")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")
def simulate(policies: str, trace: Path | None, plot: Path | None, *, as_json: bool, **given: Any) -> None:
    """Set policies side by side on a simulated fleet; ours is the code that replicas run.

    No Redis is needed. The same options give the same numbers. With several values for an option there is a table
    for each, and the plot shows curves.
    """
    asked = _asked(given, trace, policies)
    if plot is not None:
        check_plot(plot)
    console, sweep = Console(stderr=True), asked.sweep
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("simulating", total=None)

        def progress(policy: str, decided: int, expected: int) -> None:
            run = f"{policy} ({len(outcomes) + 1} of {sweep.runs})"
            bar.update(task, description=run, completed=decided, total=max(expected, decided))

        for outcome in sweep.run(progress):
            outcomes.append(outcome)  # noqa: PERF402 - the progress counts them as they come
    seconds = time.monotonic() - started
    if plot is not None:
        draw(outcomes, sweep.varied, asked.title, plot)
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(outcome) for outcome in outcomes]))
        return
    shown = Console()
    shown.print(asked.title, highlight=False, soft_wrap=True)
    for values, told in groupby(outcomes, key=lambda outcome: label(outcome, sweep.varied)):
        if values:
            shown.print(f"\n[bold]{values}[/]", highlight=False)
        shown.print(_table(list(told)))
    click.echo(f"simulated in {seconds:.1f} s", err=True)
