"""A page of fleet1_explain as plain values."""

from dataclasses import dataclass
from typing import Any, Literal

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.reason import Reason

Class = Literal["placeable", "overloaded", "unavailable", "impossible", "denied"]


@dataclass(frozen=True, slots=True)
class PoolVerdict:
    """One pool's members on this page: how many could take the job, and what keeps the others away."""

    pool: PoolName
    class_: Class
    eligible: int
    reasons: dict[Reason, int]


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """One node; all that keeps it away, in the order of the rules, with what is missing or over behind it."""

    node: NodeId
    pool: PoolName | None
    conditions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """One page; cursor "0": the last one."""

    class_: Class
    cursor: str
    reasons: dict[Reason, int]
    pools: tuple[PoolVerdict, ...]
    nodes: tuple[NodeVerdict, ...]


def _counts(words: list[Any]) -> dict[Reason, int]:
    return {Reason(name.decode()): int(count) for name, count in zip(words[::2], words[1::2], strict=True)}


def read_explained(answer: list[Any]) -> Explained:
    _, class_, cursor, reasons, pools, nodes = answer[:6]
    return Explained(
        class_.decode(),
        cursor.decode(),
        _counts(reasons),
        tuple(PoolVerdict(PoolName(p[0].decode()), p[1].decode(), int(p[2]), _counts(p[3:])) for p in pools),
        tuple(
            NodeVerdict(
                NodeId(n[0].decode()), PoolName(n[1].decode()) if n[1] else None, tuple(c.decode() for c in n[3:])
            )
            for n in nodes
        ),
    )
