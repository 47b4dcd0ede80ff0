"""`fleet replay`: real traffic from a file against live replicas."""

import asyncio
import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from scheduler.cli.settings import key_headers, with_key
from scheduler.domain.ids import checked_id, checked_token
from scheduler.errors import BadInput
from scheduler.sim.replay import Replay, ReplayPlan, Report
from scheduler.sim.trace import read_trace


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(url.strip().rstrip("/") for url in text.split(",") if url.strip())
    if not urls or not all(url.startswith(("http://", "https://")) for url in urls):
        raise BadInput("--url", "must be one or more http addresses, with commas between them")
    return urls


def _table(document: dict[str, object]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in document.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) or "none" if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), shown)
    return table


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--url", required=True, help="replicas: URL[,URL…]; requests take turns")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0.01, 10_000))
@click.option("--requires", default="gpu", show_default=True, help="capabilities that each job requires")
@click.option("--affinity", default="none", show_default=True, type=click.Choice(["none", "sticky", "spread"]))
@click.option("--tenant", default="default", show_default=True)
@click.option("--input-rate", default=20_000.0, show_default=True, type=click.FloatRange(1), help="tokens/s read")
@click.option("--output-rate", default=50.0, show_default=True, type=click.FloatRange(0.1), help="tokens/s written")
@with_key
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")
def replay(
    file: Path,
    url: str,
    speed: float,
    requires: str,
    affinity: str,
    tenant: str,
    input_rate: float,
    output_rate: float,
    api_key_file: str | None,
    *,
    as_json: bool,
) -> None:
    """Place each request of FILE at its time and finish it after its service time.

    FILE is CSV with the columns arrival_ms, session, input_tokens, output_tokens. Exit status 1 if a request
    failed or a job could not be finished; refusals are an answer.
    """
    tokens = tuple(checked_token("--requires", token) for token in requires.split())
    plan = ReplayPlan(_urls(url), speed, tokens, affinity, checked_id("--tenant", tenant), input_rate, output_rate)
    requests, headers = read_trace(file), key_headers(api_key_file)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=len(requests))

        def progress(report: Report) -> None:
            bar.update(task, completed=report.placed + report.failed + sum(report.refused.values()))

        document = {"run": plan.run, **asyncio.run(Replay(plan, requests, progress, headers).run())}
    if as_json:
        click.echo(json.dumps(document))
    else:
        Console().print(_table(document))
    if document["failed"] or document["finish_failed"]:
        raise click.exceptions.Exit(1)
