"""A node as a replica knows it: what it offers (shared by its like), and its state and load."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from scheduler.domain.ids import NodeId, PoolName, Token

NodeState = Literal["ready", "cordoned", "draining", "lost"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What nodes have in common: capabilities (with each token's part before the first colon) and pools."""

    offered: frozenset[Token]
    pools: frozenset[PoolName]


class Node(msgspec.Struct, frozen=True, gc=False):
    """One node of a snapshot. `over` names the resources above their limits; `structure` versions its shape."""

    id: NodeId
    shape: Shape
    structure: str
    state: NodeState
    slots: int
    used: int
    over: str
    quarantined: bool

    @property
    def free(self) -> int:
        """Slots that could be claimed now, as far as is known here."""
        if self.state != "ready" or self.over or self.quarantined:
            return 0
        return max(self.slots - self.used, 0)


def offered_by(tokens: list[str]) -> frozenset[Token]:
    """The tokens and the part of each before its first colon, as the capability index holds them."""
    prefixes = (token.partition(":")[0] for token in tokens if ":" in token)
    return frozenset(Token(token) for token in (*tokens, *prefixes) if token)
