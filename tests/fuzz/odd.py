"""Values that nobody should send, and sound ones that were damaged."""

from typing import Any

import msgpack
from hypothesis import strategies as st

MIB = 1_048_576
# What the seeded fleets know, and what is nearly that.
KNOWN = ["n1", "seed-0", "j1", "default:job-1", "gold", "pool-2", "default", "acme", "asr:zh", "gpu", "h1", "0", "1"]
TEXTS = st.one_of(
    st.sampled_from(KNOWN),
    st.sampled_from(
        ["", " ", "*", "-", "a b", "é", "a\n", "a\0b", "nan", "inf", "-1", "1e3", "0x1", "9" * 30, "{}", "[]", "null",
         "fleet:{0}", "fleet:{0}:node:n1", "x" * 129, "x" * 65, "../..", "zh>en", "auto", "a=b", "a:b:c", "%00", "٣"]
    ),
    st.text(max_size=12),
)  # fmt: skip
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63), 86_400_001, 1_000_001]),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
)
EXTS = st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=12))
TIMES = st.sampled_from([msgpack.Timestamp(0, 0), msgpack.Timestamp(2**33, 999_999_999)])
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.binary(max_size=12), EXTS, TIMES)
KEYS = st.one_of(TEXTS, st.integers(-5, 5), st.binary(max_size=4), st.booleans())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)
LARGE = st.sampled_from(["x" * MIB, "é" * 200_000, b"\xff" * 300_000, "[" * 60_000, " " * 300_001])
# Lengths that are claimed and not kept; nesting that a careless reader follows to its end.
BOMBS = st.sampled_from(
    [
        *(head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")),
        *(head + b"\xff\xff" for head in (b"\xdc", b"\xde", b"\xda", b"\xc5", b"\xc8")),
        b"\xdd\xff\xff\xff\xff" * 20_000,
        b"\x91" * 100_000,
        b"\x81\xa1a" * 50_000,
        b"\x81" * 1_000,
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\xc4\x05fence\x01",
        b"\xdd\x00\x08\x00\x00" + b"\xc0" * 524_288,
        b"\xdf\x00\x00\xff\xff" + b"\xa1a\xc0" * 65_535,
        b"\xc1",
        b"",
        b"\xd9",
        b"\xa5\xff\xfe\xfd\xfc\xfb",
    ]
)


def packed(value: Any) -> bytes:
    """Msgpack of whatever there is; text with half characters becomes what UTF-8 never is."""
    return bytes(msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass", default=repr))


@st.composite
def damaged(draw: st.DrawFn, sound: Any) -> Any:
    """The sound value with one to three places changed, taken out or added."""
    value = sound
    for _ in range(draw(st.integers(1, 3))):
        value = draw(_once(value))
    return value


@st.composite
def _once(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value, key=repr)))
        match draw(st.integers(0, 5)):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return value | {draw(KEYS): draw(VALUES)}
            case _:
                return value | {key: draw(_once(value[key]))}
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1 if len(packed(value)) < 2_000:
                return value * draw(st.sampled_from([2, 70, 1_100]))
            case _:
                return [*value[:at], draw(_once(value[at])), *value[at + 1 :]]
    return draw(LARGE if draw(st.integers(0, 40)) == 40 else VALUES)
