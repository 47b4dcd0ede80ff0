"""The members of several shapes as one sequence, without copying them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain


class Joined:
    """Positions of nodes, part after part. `parts[i]` begins where `ends[i - 1]` says; both are only read."""

    __slots__ = ("ends", "parts")

    def __init__(self, parts: Iterable[Sequence[int]]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> int:
        part = bisect_right(self.ends, index)
        # counted from the part's end
        return self.parts[part][index - self.ends[part]]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.parts)
