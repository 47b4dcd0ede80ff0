"""A page of fleet1_explain as plain values; what the pages add up to is the domain's to say."""

from dataclasses import dataclass
from typing import Any

from scheduler.domain.explanation import NodeVerdict
from scheduler.domain.ids import NodeId, PoolName


@dataclass(frozen=True, slots=True)
class ExplainedPage:
    """One page of nodes and the request's pools in order; cursor "0": the last one."""

    denied: bool
    cursor: str
    order: tuple[PoolName, ...]
    nodes: tuple[NodeVerdict, ...]


def _words(text: bytes) -> tuple[PoolName, ...]:
    return tuple(map(PoolName, text.decode().split()))


def read_explained(answer: list[Any]) -> ExplainedPage:
    _, class_, cursor, _, pools, nodes = answer[:6]
    verdicts = (NodeVerdict(NodeId(n[0].decode()), _words(n[1]), tuple(c.decode() for c in n[3:])) for n in nodes)
    order = tuple(PoolName(pool[0].decode()) for pool in pools)
    return ExplainedPage(class_ == b"denied", cursor.decode(), order, tuple(verdicts))
