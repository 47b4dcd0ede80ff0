from hypothesis import given
from hypothesis import strategies as st

from scheduler.placement.joined import Joined


@given(st.lists(st.lists(st.integers(0, 99), min_size=1).map(tuple), max_size=6))
def test_parts_read_as_one_sequence(parts: list[tuple[int, ...]]) -> None:
    flat, joined = [position for part in parts for position in part], Joined(parts)
    assert len(joined) == len(flat)
    assert list(joined) == flat
    assert [joined[index] for index in range(len(joined))] == flat
