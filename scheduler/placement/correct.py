"""How a claim's true loads correct the snapshot that proposed its shortlist."""

from collections.abc import Sequence

from scheduler.domain.ids import NodeId
from scheduler.placement.snapshot import Snapshot


def correct(
    shown: Snapshot, current: Snapshot, positions: Sequence[int], used: Sequence[int], taken: NodeId | None
) -> None:
    """Write the true loads over those of the present snapshot, the slot just taken included; -1 stands for unfit.

    The snapshot that was shown may have been followed by another, in which a node stands elsewhere or no more.
    """
    for position, count in zip(positions, used, strict=False):
        node = shown.node(position)
        now_at = position if current is shown else current.positions.get(node.id)
        if now_at is not None and (count >= 0 or current is shown):
            current.free[now_at] = 0 if count < 0 else max(node.slots - count - (node.id == taken), 0)
