"""`fleet mirror diff`: what a replica believes, held against Redis."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import click
import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.cli.settings import key_headers, key_hint, with_key
from scheduler.domain.answers import MirrorAnswer, MirroredNode
from scheduler.domain.ids import NodeId
from scheduler.errors import ReplicaUnavailable
from scheduler.store.truths import NodeTruth, node_truths

PAGE = 200
# Between two looks: longer than a refresh, so that what only was on its way has come.
PAUSE_S = 0.5


class Difference(msgspec.Struct, frozen=True):
    """One node and what of it differs; `missing`: the replica does not know it, `extra`: Redis does not."""

    node: str
    what: str
    replica: str
    redis: str


class Compared(msgspec.Struct, frozen=True):
    """`free_off` is the largest difference in free slots of a node; up to the tolerance it is natural."""

    url: str
    nodes: int
    looks: int
    free_off: int
    differences: list[Difference]


def differences(
    believed: Mapping[NodeId, MirroredNode], truths: Mapping[NodeId, NodeTruth], tolerance: float
) -> Iterator[Difference]:
    """Every difference by node. Free slots may differ by this share of a node's slots, and by one in any case."""
    for node in sorted(believed.keys() | truths.keys()):
        mine, true = believed.get(node), truths.get(node)
        if mine is None or true is None:
            yield Difference(node, "missing" if mine is None else "extra", "", "")
            continue
        for what in ("state", "slots", "structure"):
            if (here := getattr(mine, what)) != (there := getattr(true, what)):
                yield Difference(node, what, str(here), str(there))
        for what in ("offered", "pools"):
            here, there = set(getattr(mine, what)), set(getattr(true, what))
            if here != there:
                yield Difference(node, what, " ".join(sorted(here - there)), " ".join(sorted(there - here)))
        if abs(mine.free - true.free) > max(tolerance * true.slots, 1):
            yield Difference(node, "free", str(mine.free), str(true.free))


def _why(told: httpx.Response) -> str:
    try:
        detail = msgspec.json.decode(told.content, type=dict[str, object]).get("detail")
    except msgspec.MsgspecError:
        detail = None
    return (f", {detail}" if detail else "") + key_hint(told.status_code)


async def _believed(http: httpx.AsyncClient) -> dict[NodeId, MirroredNode]:
    found: dict[NodeId, MirroredNode] = {}
    after = ""
    while True:
        try:
            told = await http.get("/v1/mirror", params={"after": after, "limit": PAGE} if after else {"limit": PAGE})
            if told.status_code != 200:
                raise ReplicaUnavailable(f"{http.base_url}: status {told.status_code}{_why(told)}")
            page = msgspec.json.decode(told.content, type=MirrorAnswer)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise ReplicaUnavailable(f"{http.base_url}: {error}") from error
        if unfilled := [tag for tag, shard in page.shards.items() if not shard.filled]:
            raise ReplicaUnavailable(f"{http.base_url} has no snapshot yet of {' '.join(unfilled)}")
        found |= {NodeId(node.id): node for node in page.nodes}
        if page.cursor is None:
            return found
        after = page.cursor


async def _truths(fleet: OnRedis) -> dict[NodeId, NodeTruth]:
    found: dict[NodeId, NodeTruth] = {}
    for shard in fleet.shards:
        for page in _pages(await shard.views.node_ids()):
            found |= await node_truths(shard.functions.client, shard.functions.shard, page)
    return found


def _pages(nodes: Sequence[NodeId]) -> Iterator[Sequence[NodeId]]:
    return (nodes[start : start + PAGE] for start in range(0, len(nodes), PAGE))


async def _compare(fleet: OnRedis, url: str, headers: Mapping[str, str], looks: int, tolerance: float) -> Compared:
    """Look several times: what differs the same way each time differs; the rest was on its way."""
    lasting: list[Difference] = []
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http:
        for look in range(1, looks + 1):
            believed, truths = await _believed(http), await _truths(fleet)
            found = list(differences(believed, truths, tolerance))
            named = {(was.node, was.what) for was in lasting}
            lasting = [now for now in found if look == 1 or (now.node, now.what) in named]
            if not lasting or look == looks:
                break
            await asyncio.sleep(PAUSE_S)
    off = max((abs(believed[n].free - truths[n].free) for n in believed.keys() & truths.keys()), default=0)
    return Compared(url, len(truths), look, off, lasting)


@click.group()
def mirror() -> None:
    """The snapshot of the fleet that each replica has."""


@mirror.command()
@click.option("--url", required=True, help="the replica, such as http://127.0.0.1:8080")
@click.option(
    "--looks", default=3, show_default=True, type=click.IntRange(1, 100), help="what differs in each counts"
)
@click.option(
    "--tolerance", default=0.25, show_default=True, type=click.FloatRange(0, 1), help="of free slots, as a share"
)
@with_key
@AS_JSON
@where
def diff(
    url: str,
    looks: int,
    tolerance: float,
    api_key_file: str | None,
    redis_url: str | None,
    namespace: str | None,
    *,
    as_json: bool,
) -> None:
    """Nodes that the replica lacks, has in excess, or knows otherwise than Redis has them.

    Free slots follow in steps of a tenth, so they may differ a little. Exit status 1 if anything differs.
    """
    headers = key_headers(api_key_file)
    told = on_redis(redis_url, namespace, lambda fleet: _compare(fleet, url.rstrip("/"), headers, looks, tolerance))
    if as_json:
        click.echo(msgspec.json.encode(told))
    elif told.differences:
        table = Table(*Difference.__struct_fields__, box=None, header_style="bold")
        for line in told.differences:
            table.add_row(*msgspec.structs.astuple(line))
        Console().print(table)
        click.echo(f"{len(told.differences)} differences in {told.nodes} nodes, the same in {told.looks} looks")
    else:
        click.echo(f"{told.nodes} nodes, no difference; free slots differ by at most {told.free_off} on a node")
    if told.differences:
        raise click.exceptions.Exit(1)
