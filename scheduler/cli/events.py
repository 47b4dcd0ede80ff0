"""`fleet events`: what happened, and what happens, read from Redis itself."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import click

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.domain.ids import checked_id, checked_job_id
from scheduler.errors import ServerUnavailable
from scheduler.store.events import PAGE, START, Event, EventReader, order

# More than the stream keeps.
PAGES_MAX = 20
RETRY_S = 1.0
Filter = Callable[[Event], bool]


def local_time(at_ms: int) -> str:
    """An instant as a person here reads it."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


def line(event: Event) -> str:
    fields = (f"{name} {value}" for name, value in event.fields.items() if value)
    return "  ".join((local_time(event.at_ms), f"{event.kind:<16}", *fields))


def showing(*, as_json: bool) -> Callable[[Event], None]:
    """Prints an event, for programs or for people."""

    def show(event: Event) -> None:
        click.echo(event.json if as_json else line(event))

    return show


def kinds_in(given: tuple[str, ...]) -> frozenset[str]:
    """The kinds of an option that may be given again, or with commas between."""
    return frozenset(kind for text in given for kind in text.split(",") if kind)


def wanting(kinds: frozenset[str], job: str | None, node: str | None) -> Filter:
    def wanted(event: Event) -> bool:
        return (
            (not kinds or event.kind in kinds)
            and (job is None or event.fields.get("job") == job)
            and (node is None or event.fields.get("node") == node)
        )

    return wanted


async def latest(reader: EventReader, wanted: Filter, count: int) -> list[Event]:
    """The last so many that are wanted, the oldest first."""
    found: list[Event] = []
    position = "+"
    for _ in range(PAGES_MAX):
        page = await reader.before(position)
        found += filter(wanted, page)
        if len(found) >= count or len(page) < PAGE:
            break
        position = page[-1].position
    return found[:count][::-1]


async def _follow(reader: EventReader, position: str, show: Callable[[Event], None], wanted: Filter) -> None:
    away = False
    while True:
        # A Ctrl-C that came while a line was shown strikes here; Python 3.11's wait_for, below, could swallow it.
        await asyncio.sleep(0)
        try:
            page = await reader.after(position)
        except ServerUnavailable as error:
            if not away:
                click.echo(f"fleet: {error}; still trying", err=True)
            away = True
            await asyncio.sleep(RETRY_S)
            continue
        away = False
        for event in filter(wanted, page):
            show(event)
        position = page[-1].position if page else position


async def _begun(reader: EventReader, wanted: Filter, count: int) -> tuple[str, list[Event]]:
    # where to go on is asked first: what comes meanwhile is among the last, or behind it
    _, newest = await reader.span()
    shown = await latest(reader, wanted, count)
    return max(newest, shown[-1].position if shown else START, key=order), shown


async def tail(
    readers: Sequence[EventReader], wanted: Filter, count: int, show: Callable[[Event], None], *, follow: bool
) -> None:
    """Show the last so many of all the streams, in their order in time; with follow go on, for ever."""
    begins = [await _begun(reader, wanted, count) for reader in readers]
    last = sorted((event for _, shown in begins for event in shown), key=lambda event: order(event.position))
    for event in last[len(last) - min(count, len(last)) :]:
        show(event)
    if follow:
        await asyncio.gather(
            *(_follow(reader, begin, show, wanted) for reader, (begin, _) in zip(readers, begins, strict=True))
        )


@click.command()
@click.option("-f", "--follow", is_flag=True, help="go on with what happens, until Ctrl-C")
@click.option("--kind", "kinds", multiple=True, help="only this kind; may be given again, or with commas between")
@click.option("--job", help="only of this job")
@click.option("--node", help="only of this node")
@click.option(
    "--count", default=50, show_default=True, type=click.IntRange(0, 100_000), help="how many to begin with"
)
@AS_JSON
@where
def events(
    kinds: tuple[str, ...],
    job: str | None,
    node: str | None,
    count: int,
    redis_url: str | None,
    namespace: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the last events, the newest at the end. With --json each is an object in a line of its own."""
    wanted = wanting(
        kinds_in(kinds),
        None if job is None else checked_job_id(job),
        None if node is None else checked_id("--node", node),
    )

    async def run(fleet: OnRedis) -> None:
        await tail([shard.events for shard in fleet.shards], wanted, count, showing(as_json=as_json), follow=follow)

    on_redis(redis_url, namespace, run)
