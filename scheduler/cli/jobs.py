"""`fleet jobs`: what becomes of jobs, and one job's story, read from Redis itself."""

from collections import Counter, defaultdict

import click
import msgspec

from scheduler.cli.asking import AS_JSON, OnRedis, Shard, on_redis, tell, where
from scheduler.cli.events import PAGES_MAX, line, local_time
from scheduler.domain.ids import JobId, checked_job_id
from scheduler.domain.views import JobView
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.events import PAGE, Event, order
from scheduler.store.views import Elsewhere

RESULT_SHOWN = 200


class Recent(msgspec.Struct, frozen=True):
    """Jobs by the last that was heard of each, among the newest events; `reasons` where the event gave one."""

    leases: int
    since_ms: int | None
    jobs: dict[str, int]
    reasons: dict[str, dict[str, int]]


async def _recent(fleet: OnRedis) -> Recent:
    leases = 0
    newest: list[Event] = []
    for shard in fleet.shards:
        leases += (await shard.views.shard())[1]
        newest += await shard.events.before()
    newest.sort(key=lambda event: order(event.position), reverse=True)
    last: dict[str, Event] = {}
    for event in newest:
        if event.kind.startswith("job_"):
            last.setdefault(event.fields.get("job", ""), event)
    kinds = Counter(event.kind for event in last.values())
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in last.values():
        if reason := event.fields.get("reason"):
            reasons[event.kind][reason] += 1
    since_ms = newest[-1].at_ms if newest else None
    return Recent(leases, since_ms, dict(kinds.most_common()), {k: dict(n.most_common()) for k, n in reasons.items()})


def _counts(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    found = on_redis(redis_url, namespace, _recent)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"{found.leases} hold a slot now")
    if found.since_ms is not None:
        click.echo(f"the last heard of each job since {local_time(found.since_ms)}:")
    for kind, count in found.jobs.items():
        reasons = ", ".join(f"{reason} {n}" for reason, n in found.reasons.get(kind, {}).items())
        click.echo(f"  {kind:<16} {count:>5}{f'   {reasons}' if reasons else ''}")


@click.group(invoke_without_command=True)
@AS_JSON
@where
@click.pass_context
def jobs(context: click.Context, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """What becomes of jobs; without a command: how many hold a slot, and how the last ones ended."""
    if context.invoked_subcommand is None:
        _counts(redis_url, namespace, as_json=as_json)
    elif as_json or redis_url or namespace:
        raise BadInput("fleet jobs", f"takes its options after the command {context.invoked_subcommand}")


def _words(job: JobView) -> list[str]:
    """The job's record in sentences."""
    told = [f"job {job.id} of tenant {job.tenant}: {job.state}{f' ({job.reason})' if job.reason else ''}"]
    if job.node is None:
        told.append(f"on no node, priority {job.priority}")
    else:
        told.append(f"attempt {job.attempt} on node {job.node.id} in pool {job.pool}, fence {job.fence}")
    times = [f"created {local_time(job.created_at_ms)}"]
    if job.started_at_ms is not None:
        times.append(f"started {job.started_at_ms - job.created_at_ms} ms later")
    if job.ended_at_ms is not None:
        times.append(f"ended {job.ended_at_ms - job.created_at_ms} ms after its creation")
    elif job.lease_expires_at_ms is not None:
        times.append(f"its lease ends {local_time(job.lease_expires_at_ms)}")
    told += [", ".join(times), f"requires {job.demand}"]
    if job.result:
        more = len(job.result) - RESULT_SHOWN
        told.append(f"result {job.result[:RESULT_SHOWN]}{f' and {more} characters more' if more > 0 else ''}")
    return told


async def _found(fleet: OnRedis, job: JobId) -> tuple[JobView | None, list[Shard]]:
    """The job as it stands, and the shards that had it, the present one at the end."""
    shard, view, seen = fleet.of_job(job), None, list[Shard]()
    while shard not in seen:
        seen.append(shard)
        found = await shard.views.job(job)
        if not isinstance(found, Elsewhere):
            return found or view, seen
        shard, view = fleet.tagged(found.tag), found.view
    return view, seen


async def _story(fleet: OnRedis, job: JobId) -> tuple[JobView | None, list[Event]]:
    """The job and its events in order. Nothing is heard of a job before it is created."""
    view, shards = await _found(fleet, job)
    heard: list[Event] = []
    for shard in shards:
        heard += await _heard(shard, job, f"{view.created_at_ms - 1}-0" if view else "0-0")
    return view, sorted(heard, key=lambda event: order(event.position))


async def _heard(shard: Shard, job: JobId, position: str) -> list[Event]:
    heard: list[Event] = []
    for _ in range(PAGES_MAX):
        page = await shard.events.between(position)
        heard += (event for event in page if event.fields.get("job") == job)
        if len(page) < PAGE:
            break
        position = page[-1].position
    return heard


def _unknown(job: JobId) -> click.exceptions.Exit:
    click.echo(f"fleet: no job {job} is known: it was refused, or ended more than an hour ago", err=True)
    return click.exceptions.Exit(1)


@jobs.command()
@click.argument("job_id", metavar="ID")
@AS_JSON
@where
def show(job_id: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Tell one job's story: what its record says, then its events in order."""
    job = checked_job_id(job_id)
    view, heard = on_redis(redis_url, namespace, lambda fleet: _story(fleet, job))
    if view is None and not heard:
        raise _unknown(job)
    if as_json:
        click.echo(msgspec.json.encode({"job": view, "events": [msgspec.Raw(e.json.encode()) for e in heard]}))
        return
    for words in _words(view) if view else [f"job {job}: its record is gone, its events are still there"]:
        click.echo(words)
    for event in heard:
        click.echo(f"  {line(event)}")


@jobs.command()
@click.argument("job_id", metavar="ID")
@AS_JSON
@where
def cancel(job_id: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """End a job that has not ended. A node that works on it is told; its slot is free once it confirms."""
    job = checked_job_id(job_id)

    async def ask(fleet: OnRedis) -> str:
        _, shards = await _found(fleet, job)
        return await shards[-1].functions.job_cancel(job)

    word = on_redis(redis_url, namespace, ask)
    if word == "moved":
        raise ServerUnavailable("the job moves between shards: try again")
    if word == "unknown":
        raise _unknown(job)
    told = f"cancelled {job}" if word == "cancelled" else f"{job} had ended before"
    tell(told, {"job": job, "outcome": word}, as_json=as_json)
