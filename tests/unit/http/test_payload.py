"""Payloads that claim, nest or hold what they must not: refused in a moment and at no cost of memory."""

import time
import tracemalloc

import msgspec
import pytest
from msgspec import Raw

from scheduler.domain.job import PAYLOAD_MAX_BYTES
from scheduler.errors import BadInput
from scheduler.http.body import decoded
from scheduler.http.payload import payload_text
from scheduler.http.problems import Problem
from scheduler.http.wire import BatchBody, JobBody

HEAD = b"\x82\xa8requires\x91\xa1a\xa7payload"
LIST32, MAP32, BIN32, STR32, EXT32 = b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"
MOST = b"\x7f\xff\xff\xff"


@pytest.mark.parametrize(
    "bomb",
    [LIST32 + MOST, MAP32 + MOST, BIN32 + MOST, STR32 + MOST, EXT32 + MOST + b"\x01", (LIST32 + MOST) * 900,
     (MAP32 + MOST + b"\xa1a") * 900, b"\x91" * 1_000_000],
    ids=["list", "map", "bytes", "text", "extension", "lists in lists", "maps in maps", "depth"],
)  # fmt: skip
def test_msgpack_that_claims_more_than_it_has_costs_nothing(bomb: bytes) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(Problem) as refused:
        decoded(HEAD + bomb, JobBody, packed=True)
    assert refused.value.status == 400
    assert time.perf_counter() - begun < 1
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("nested", [b"[" * 500_000, b'{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000])
def test_json_that_nests_too_deep_is_refused_where_it_is_read(nested: bytes) -> None:
    for whole, kind in ((b'{"requires":["a"],"payload":' + nested + b"}", JobBody), (nested, BatchBody)):
        with pytest.raises(Problem) as refused:
            decoded(whole, kind, packed=False)
        assert refused.value.status in {400, 422}


@pytest.mark.parametrize(
    "value",
    [b"\x91" * 2_000 + b"\x01", b"\xd4\x05a", b"\xd6\xff\x00\x00\x00\x00", b"\x91\xc4\x01a", b"\x81\x01\x01",
     b"\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\x91\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
     b"\x82\x01\x01\xa11\x01"],
    ids=["depth", "extension", "time", "bytes", "number as key", "not a number", "infinity", "the same key twice"],
)  # fmt: skip
def test_what_json_cannot_hold_is_refused(value: bytes) -> None:
    with pytest.raises(BadInput, match="payload must be a value that JSON can hold"):
        payload_text(Raw(value), packed=True)


def test_a_long_packed_payload_is_refused_before_anything_looks_into_it() -> None:
    count = PAYLOAD_MAX_BYTES - 5
    lists = LIST32 + count.to_bytes(4, "big") + b"\x90" * count
    with pytest.raises(BadInput, match="at most 262144 bytes"):
        payload_text(Raw(lists), packed=True)  # as JSON it is three times as long
    tracemalloc.start()
    with pytest.raises(BadInput, match="at most 262144 bytes"):
        payload_text(Raw(LIST32 + (count * 3).to_bytes(4, "big") + b"\x90" * count * 3), packed=True)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "value", [None, True, 0, -0.0, 1e300, 2**64 - 1, -(2**63), "é\u2028", [], {}, [{"a": [1.5]}]]
)
def test_what_json_can_hold_is_taken_as_it_is(value: object) -> None:
    assert msgspec.json.decode(payload_text(Raw(msgspec.msgpack.encode(value)), packed=True)) == value
