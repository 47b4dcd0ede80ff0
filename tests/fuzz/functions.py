"""Each function with the raw arguments that redis-cli could send: it answers a word of its own or BADARG, never
raises, and a call that is refused as misuse changes no key.
"""

import functools
import json
import re
from typing import Any, NamedTuple, cast

import msgpack
import redis
from hypothesis import strategies as st

from tests.fuzz.odd import BOMBS, LARGE, NUMBERS, TEXTS, VALUES, damaged, packed
from tests.fuzz.stage import P
from tests.lua.shard import Shard
from tests.lua.test_bad_arguments import VALID
from tests.lua.test_headers import FUNCTIONS, section

RESEED_AFTER = 200
NAMES = [path.stem for path in FUNCTIONS]
WORDS = {path.stem: set(re.findall(r"\w+", section(path, "Reply"))) | {"moving"} for path in FUNCTIONS}
_JSONS = [
    '{"selector":{"all":true}}',
    '{"requires":["asr"]}',
    '{"pools":{"gold":{"selector":{"all":true}}}}',
    '{"any_of":[["asr:zh"]]}',
]


class Call(NamedTuple):
    name: str
    keys: tuple[bytes, ...]
    args: tuple[bytes, ...]


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "surrogatepass")


@functools.cache
def _claim() -> dict[str, Any]:
    """A sound claim, as a map."""
    return {"id": "j2", "tenant": "acme", "demand": '{"any_of":[["asr:zh"]]}', "config_version": 0,
            "structure_version": 0, "nodes": ["n1"], "structures": ["0"], "ranks": [1], "digest": "d",
            "session": "s1", "affinity": "sticky", "payload": "{}", "priority": 5, "ack_ms": 10_000,
            "timeout_ms": 600_000, "max_attempts": 3, "wait_ms": 1_000}  # fmt: skip


def _claim_bytes(value: Any) -> bytes:
    # as our own client packs it: the functions' decoder knows no bin type
    return bytes(msgpack.packb(value, use_bin_type=False, unicode_errors="surrogatepass", default=repr))


_JSON_TEXTS = st.sampled_from([json.loads(text) for text in _JSONS]).flatmap(damaged).map(
    lambda value: json.dumps(value, default=repr, skipkeys=True)
)  # fmt: skip
_WORDS = st.one_of(
    TEXTS,
    TEXTS,
    NUMBERS,
    st.sampled_from(["cpu", "slots", "capabilities", "labels", "running", "endpoint", "drain", "thaw", "succeeded"]),
    st.binary(max_size=20),
    st.sampled_from(_JSONS),
    _JSON_TEXTS,
    damaged(_claim()).map(_claim_bytes),
    VALUES.map(packed),
    st.integers(0, 8).flatmap(lambda draw: LARGE if draw == 8 else BOMBS),
)
_SOUND_CLAIMS = st.just(_claim()).map(_claim_bytes)
_KEYS = st.one_of(
    *[st.just((P.encode(),))] * 12,
    st.lists(st.one_of(st.just(P), TEXTS).map(_bytes), max_size=3).map(tuple),
)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """A call with arguments that are sound, damaged in places, or of any kind and number."""
    name = draw(st.sampled_from(NAMES))
    args = list(VALID.get(name, [])) if name != "job_claim" else [draw(_SOUND_CLAIMS)]
    if draw(st.integers(0, 4)) == 0:
        args = draw(st.lists(_WORDS, max_size=9))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(args)))
        match draw(st.integers(0, 4)):
            case 0:
                args = args[:at] + args[at + 1 :]
            case 1:
                args = [*args[:at], draw(_WORDS), *args[at:]]
            case 2:
                args = args[:at] + args[:at] * 3 + args[at:]
            case _:
                args = [*args[:at], draw(_WORDS), *args[at + 1 :]]
    return Call(name, draw(_KEYS), tuple(map(_bytes, args)))


def expired(client: redis.Redis) -> int:
    """How many keys the server has let go because their time was over."""
    return int(client.info("stats")["expired_keys"])


class Functions:
    """Judges calls against a server that nobody else uses."""

    def __init__(self, client: redis.Redis, code: str) -> None:
        self._client = client
        self._code = code
        self._left = 0
        self._expired, self._digest = 0, b""

    def _seed(self) -> None:
        self._client.flushall()
        self._client.execute_command("FUNCTION", "LOAD", "REPLACE", self._code)
        shard = Shard(self._client)
        shard.register(slots=5)
        shard.put("gold")
        shard.run("j1")
        shard.claim("j3", requires="gpu", wait_ms=60_000)
        self._left = RESEED_AFTER
        self._note()

    def _now(self) -> bytes:
        """What all keys with their values come to."""
        return cast("bytes", self._client.execute_command("DEBUG", "DIGEST"))

    def _note(self) -> None:
        """What a call that is refused must leave, unless keys went by themselves meanwhile."""
        self._expired, self._digest = expired(self._client), self._now()

    def _unchanged(self) -> bool:
        if self._now() == self._digest:
            return True
        if expired(self._client) == self._expired:
            # so that one fault is not found again in all that follows
            self._left = 0
            return False
        self._note()
        return True

    def judge(self, call: Call) -> str:
        if self._left == 0:
            self._seed()
        self._left -= 1
        try:
            answer: Any = self._client.execute_command(
                "FCALL", f"fleet1_{call.name}", len(call.keys), *call.keys, *call.args
            )
        except redis.ResponseError as error:
            said = str(error)
            assert re.match(r"^BADARG [\w.-]+ \S", said), f"fleet1_{call.name} raises: {said[:300]}"
            assert self._unchanged(), f"fleet1_{call.name} changed a key and said {said[:100]}"
            return "BADARG"
        assert isinstance(answer, list), answer
        assert answer, "an empty reply"
        assert isinstance(answer[0], bytes), answer
        word = answer[0].decode()
        assert word in WORDS[call.name], f"fleet1_{call.name} answers {word}, which its header does not name"
        if word == "moving" or call.name.startswith("shard_"):
            # a frozen or divided shard would answer nothing else from here
            self._left = 0
        self._note()
        return word
