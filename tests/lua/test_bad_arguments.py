"""Misuse is an error that begins `BADARG <field>` and leaves the keyspace as it was, byte for byte."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from tests.lua.keyspace import P, exact
from tests.lua.shard import Shard

Args = list[Any]

MIB = b"x" * 1_048_576
BIG = "9" * 30
ODD_ID = ["", " ", "a b", "é", "-a", ".a", "a/b", "a{0}", "a\n", "a\0b", b"\xff\x00", "*", "x" * 200, MIB]
ODD_WHOLE = ["", " 1", "-1", "+1", "1.0", "1e3", "0x1", "nan", "inf", "-inf", "NaN", BIG, "1\0", b"\xff", MIB]
ODD_PERCENT = ["", "-1", "100.1", "nan", "inf", "1e1", "1,5", ".5", BIG, b"\xff", MIB]

ODD_QUOTAS = [
    *((f'{{"{name}":{value}}}', name) for name, values in (
        ("concurrent_jobs", ("-1", "1.5", "1000001", "1e300", '"1"', "true", "false", "null", "[]", "{}", "NaN")),
        ("waiting_jobs", ("-1", "1000001", "0.1")),
        ("requests_per_s", ("0", "-1", "1000001")),
        ("payload_bytes", ("-1", "262145")),
        ("slots", ("1",)),
    ) for value in values),
    ("[1]", "json"),
]  # fmt: skip

REGISTER: Args = ["n9", "endpoint", "http://n9", "slots", "2", "capabilities", "asr"]
BEAT: Args = ["n1", "1"]
KEY = {"hash": "a" * 64, "tenant": "acme", "role": "submit", "created_at_ms": 1}
BY = "key:abcdefgh"
VALID: dict[str, Args] = {
    "library_read": [],
    "node_register": REGISTER,
    "node_heartbeat": BEAT,
    "node_mark": ["n1", "drain", "5", BY],
    "node_remove": ["n1", "1", BY],
    "job_start": ["j1", "1"],
    "job_finish": ["j1", "1", "succeeded", "r"],
    "job_cancel": ["j1", BY],
    "reap": ["1"],
    "mirror_read": ["5", "5", "", "1", "1", "0"],
    "pool_put": ["gold", '{"selector":{"all":true}}', BY],
    "pool_remove": ["gold", BY],
    "pools_apply": ["0", '{"pools":{"gold":{"selector":{"all":true}}}}', "1", BY],
    "tenant_lend": ["acme", "waiting_jobs", "take", "1", "0"],
    "tenant_put": ["acme", '{"concurrent_jobs":1}', BY],
    "tenant_remove": ["acme", BY],
    "tenants_apply": ["0", '{"acme":{"waiting_jobs":2}}', "1"],
    "job_move": ["j1", "1", "h1", "acme", "d"],
    "job_return": ["j1", "h1"],
    "job_settle": ["j1", "h1", "1"],
    "moves_due": ["1"],
    "queues_read": ["r1"],
    "hold_drop": ["h1"],
    "shard_find": ["n1"],
    "shard_init": ["0 1", "1"],
    "shard_freeze": ["thaw"],
    "explain": ['{"requires":["asr"]}', "0"],
    "apikey_put": ["newkey01", json.dumps(KEY), "a" * 64, BY],
    "apikey_remove": ["newkey01", BY],
}
LEAST = {"node_register": 7, "node_heartbeat": 2, "node_mark": 2, "node_remove": 2, "job_start": 2,
         "job_finish": 3, "job_cancel": 1, "mirror_read": 3, "pool_put": 2, "pool_remove": 1, "pools_apply": 2,
         "tenant_lend": 4, "tenant_put": 2, "tenant_remove": 1, "tenants_apply": 2,
         "explain": 1, "job_move": 3, "job_return": 2, "job_settle": 3, "moves_due": 1, "queues_read": 1,
         "hold_drop": 1, "shard_find": 1, "shard_init": 1, "shard_freeze": 1, "apikey_put": 2,
         "apikey_remove": 1}  # fmt: skip


def wanted(field: str, *values: str) -> list[Any]:
    return [f'{{"requires":["asr"],"{field}":{value}}}' for value in values]


# What a demand to explain may not be; no value that is left out is null, and false is no list.
ODD_WANTED: dict[str, list[Any]] = {
    "demand": ["", "{", "7", "null", "[7]", "{}", "[]", '{"requires":["asr"]}x', b"\xff", " " * 300_001, MIB,
               "[" * 5000, '{"requires":["asr"],"any_of":[["asr"]]}', '{"requires":["asr"],"a b":1}',
               *(f'{{"requires":{value}}}' for value in ("null", "7", "false", "true", '"asr"', "[]", "{}", "[7]",
                 "[null]", '["a b"]', '[["asr"]]', '{"a":"asr"}')),
               *(f'{{"any_of":{value}}}' for value in ("null", "7", "false", "[]", "{}", "[[]]", '["asr"]', "[[7]]",
                 "[null]", "[" + ",".join(['["a"]'] * 33) + "]", "[" + str(["a"] * 65).replace("'", '"') + "]"))],
    "tenant": wanted("tenant", "null", "7", "false", '""', '"a b"', '"*"', "[]"),
    "pool": wanted("pool", "null", "7", "false", '""', '"a b"', "[]"),
    "fallback": wanted("fallback", "null", "1", '"yes"', "[]"),
    "all": wanted("all", "null", "1", '"yes"', "{}"),
    "exclude": wanted("exclude", "null", "7", "false", '"n1"', '{"a":1}', "[7]", "[null]", '["a b"]', '["a","a"]',
                      str([f"n{number}" for number in range(65)]).replace("'", '"')),
    "languages": wanted("languages", "null", "7", "false", '"de"', '{"a":1}', "[7]", '["d e"]', '["-de"]',
                        '["de","de"]', '["a","b","c","d","e","f","g","h","i"]'),
    "colour": wanted("colour", "1"),
}  # fmt: skip


def odd_keys() -> Iterator[tuple[str, Any]]:
    """A field that an API key may not have so, and the key with it."""
    value: Any
    for value in (None, 7, False, "", "a" * 63, "A" * 64, "g" * 64, []):
        yield "hash", KEY | {"hash": value}
    for value in (None, 7, "", "root", "Admin", []):
        yield "role", KEY | {"role": value}
    for value in (None, 7, "", "a b", "**", {}):
        yield "tenant", KEY | {"tenant": value}
    yield "tenant", KEY | {"role": "admin"}
    yield "node", KEY | {"node": "n1"}
    yield "node", KEY | {"role": "node"}
    for value in (None, 7, "", "a b", []):
        yield "node", KEY | {"role": "node", "node": value}
    for name in ("created_at_ms", "expires_at_ms"):
        for value in (None, "1", -1, 1.5, 2**60, [], True):
            yield name, KEY | {name: value}
    yield "parent_hash", KEY | {"parent": "parent01"}
    yield "parent_hash", KEY | {"parent_hash": "a" * 64}
    yield "parent", KEY | {"parent": "a_b", "parent_hash": "a" * 64}
    yield "old_hash", KEY | {"old_hash": "a" * 64}
    yield "old_hash", KEY | {"old_expires_at_ms": 1}
    yield "json", KEY | {"secret": "x"}


def replaced(name: str, at: int, values: list[Any], field: str) -> Iterator[tuple[str, Args, str]]:
    for value in values:
        yield name, [*VALID[name][:at], value, *VALID[name][at + 1 :]], field


def added(name: str, word: str, values: list[Any]) -> Iterator[tuple[str, Args, str]]:
    for value in values:
        args = VALID[name]
        if word in args:
            at = args.index(word) + 1
            yield name, [*args[:at], value, *args[at + 1 :]], word
        else:
            yield name, [*args, word, value], word


def cases() -> Iterator[tuple[str, Args, str]]:
    for name in ("node_register", "node_heartbeat", "node_mark", "node_remove", "shard_find"):
        yield from replaced(name, 0, ODD_ID, "node")
    for name in ("job_start", "job_finish", "job_cancel", "job_move", "job_return", "job_settle"):
        yield from replaced(name, 0, [*ODD_ID[:-2], "a:b:c", "x" * 130, MIB], "job")
    for name in ("node_heartbeat", "node_remove"):
        yield from replaced(name, 1, ["0", *ODD_WHOLE], "incarnation")
    for name in ("tenant_put", "tenant_remove"):
        yield from replaced(name, 0, [*(odd for odd in ODD_ID if odd != "*"), "**"], "tenant")
    yield from replaced("tenant_put", 1, ["", "{", "7", "null", '"x"', "{} {}", " " * 1025, MIB], "json")
    yield from replaced("tenant_lend", 0, ODD_ID, "tenant")
    yield from replaced("tenant_lend", 1, ["", "slots", "payload_bytes", MIB], "quota")
    yield from replaced("tenant_lend", 2, ["", "lend", MIB], "direction")
    yield from replaced("tenant_lend", 3, ["0", "1000001", *ODD_WHOLE], "count")
    yield from replaced("tenant_lend", 4, ODD_WHOLE, "version")
    yield "tenant_lend", ["acme", "waiting_jobs", "take", "1"], "version"
    yield "tenant_lend", ["acme", "waiting_jobs", "give", "1", "0"], "version"
    for quota, odd in ODD_QUOTAS:
        yield "tenant_put", ["acme", quota], odd
        yield "tenants_apply", ["0", f'{{"acme":{quota}}}', "1"], f"acme.{odd}" if odd != "json" else "acme"
    yield from replaced("tenants_apply", 0, ODD_WHOLE, "seen")
    yield from replaced("tenants_apply", 1, ["", "{", "7", "null", " " * 262_145, MIB], "json")
    yield from replaced("tenants_apply", 1, ['{"a b":{}}', "[{}]", '{"":{}}', '{"**":{}}'], "tenant")
    yield from replaced("tenants_apply", 2, ["0", *ODD_WHOLE], "source")
    yield from replaced("mirror_read", 5, ["x" * 17, MIB], "tenants")
    for name in ("job_start", "job_finish"):
        yield from replaced(name, 1, ["0", *ODD_WHOLE], "fence")
    yield from replaced("job_finish", 2, ["", "running", "SUCCEEDED", MIB], "outcome")
    yield from replaced("job_finish", 3, [MIB, b"x" * 262_145], "result")
    yield from replaced("node_mark", 1, ["", "lost", "Cordon", MIB], "mark")
    # empty it is left out, for who acts stands behind it
    yield from replaced("node_mark", 2, ["86400001", *filter(None, ODD_WHOLE)], "drain_ms")
    for name, valid in VALID.items():
        if BY in valid:
            yield from replaced(name, valid.index(BY), ["a b", "é", "x" * 129, "\n", MIB], "by")
    yield "node_mark", ["n1", "cordon", "5"], "drain_ms"
    yield from replaced("reap", 0, ["0", "65", *ODD_WHOLE], "max")
    yield from replaced("mirror_read", 0, ODD_WHOLE, "cursor")
    yield from replaced("mirror_read", 1, ["6", *ODD_WHOLE], "complete")
    yield from replaced("mirror_read", 2, [MIB], "config")
    for name in ("pool_put", "pool_remove"):
        yield from replaced(name, 0, ODD_ID, "pool")
    for name in ("apikey_put", "apikey_remove"):
        yield from replaced(name, 0, [*ODD_ID, "ABCDEFGH", "short", "a_b_c_d_e"], "apikey")
    yield from replaced("apikey_put", 1, ["", "{", "7", b"\xff", " " * 1025, MIB], "json")
    yield from replaced("apikey_put", 2, ["a" * 63, "A" * 64, MIB], "seen")
    for field, key in odd_keys():
        yield from replaced("apikey_put", 1, [json.dumps(key)], field)
    yield from replaced("pool_put", 1, ["", "{", "7", b"\xff", MIB], "json")
    yield from replaced("pools_apply", 0, ODD_WHOLE, "seen")
    yield from replaced("pools_apply", 1, ["", "{", "7", b"\xff", MIB], "json")
    yield from replaced("pools_apply", 2, ["0", *filter(None, ODD_WHOLE)], "source")
    yield from replaced("job_move", 1, ODD_ID, "tag")
    yield from replaced("job_move", 2, ODD_ID, "hold")
    yield from replaced("job_move", 3, ODD_ID, "tenant")
    yield from replaced("job_move", 4, ["", " ", "a b", "x" * 129, MIB], "digest")
    yield "job_move", ["j1", "1", "h1", "acme"], "digest"
    for name in ("job_return", "job_settle"):
        yield from replaced(name, 1, ODD_ID, "hold")
    yield from replaced("hold_drop", 0, ODD_ID, "hold")
    yield from replaced("job_settle", 2, ["", "2", "yes", "01", MIB], "lives")
    yield from replaced("moves_due", 0, ["0", "101", *ODD_WHOLE], "max")
    yield from replaced("queues_read", 0, ODD_ID, "reader")
    yield from replaced("shard_init", 0, ["", " ", "0 0", "0 a_b", "0 a-b", "0 é", "1", "1 2", "0 " + "x" * 33,
                                          " ".join(map(str, range(129))), MIB], "tags")  # fmt: skip
    yield from replaced("shard_init", 1, ["", "0", "2", "yes", MIB], "restore")
    yield from replaced("shard_freeze", 0, ["", "Freeze", "melt", MIB], "what")
    yield from replaced("explain", 1, ["-1", "1.5", "x", BIG, b"\xff", MIB], "cursor")
    for field, texts in ODD_WANTED.items():
        yield from replaced("explain", 0, texts, field)
    yield from replaced("mirror_read", 3, ["0", "201", *ODD_WHOLE], "max")
    yield from replaced("mirror_read", 4, ["2", *ODD_WHOLE], "truths")
    for name in ("node_register", "node_heartbeat"):
        for resource in ("cpu", "gpu", "mem"):
            yield from added(name, resource, ODD_PERCENT)
        yield from added(name, "slots", ["0", "1000001", *ODD_WHOLE])
        tokens = ["a b/c", "é", "-a", "x" * 129, MIB, " ".join(f"t{number}" for number in range(1025)), "a\0"]
        yield from added(name, "capabilities", tokens)
        labels = ["a", "=b", "a=b=c", "a=é", "a=1 a=2", "k" * 65 + "=v", "k=" + "v" * 200, MIB]
        yield from added(name, "labels", [*labels, " ".join(f"k{number}=v" for number in range(65))])
        yield name, [*VALID[name], "cpu"], "cpu"
        yield name, [*VALID[name], "cpu", "1", "cpu", "1"], "cpu"
        for word in ("", "CPU", "state", "incarnation", b"\xff", MIB):
            yield name, [*VALID[name], word, "1"], "arguments"
    yield from added("node_register", "endpoint", ["", " ", "a b", "é", "x" * 513, b"\xff", MIB])
    yield from added("node_register", "capabilities", ["", "  "])
    yield from added("node_register", "ttl_ms", ["99", "3600001", *ODD_WHOLE])
    for limit in ("cpu_max", "gpu_max", "mem_max"):
        yield from added("node_register", limit, ODD_PERCENT)
    yield from added(
        "node_heartbeat", "running", ["j1", "j1 1 j2", "j1 1 " * 1001, MIB, "j1 0", "j1 -1", "j1 " + BIG]
    )
    yield "node_heartbeat", [*BEAT, "running", "j/1 1"], "job"


@pytest.fixture
def seeded(shard: Shard) -> Shard:
    shard.register(slots=5)
    shard.run("j1")
    return shard


def told(shard: Shard, name: str, *args: Any, key: str = P) -> str:
    """The reply, or the text of the error reply."""
    try:
        return repr(shard.call(name, *args, key=key))
    except redis.ResponseError as error:
        return str(error)


def refused(shard: Shard, name: str, *args: Any, field: str, key: str = P) -> None:
    before = exact(shard.client)
    said = told(shard, name, *args, key=key)
    assert re.match(rf"^BADARG {re.escape(str(field))} \S", said), (said, field, [arg[:80] for arg in map(str, args)])
    assert exact(shard.client) == before


def test_each_odd_value_of_each_argument(seeded: Shard) -> None:
    seen = 0
    for name, args, field in cases():
        refused(seeded, name, *args, field=field)
        seen += 1
    assert seen > 350


@pytest.mark.parametrize("name", sorted(LEAST))
def test_missing_arguments(seeded: Shard, name: str) -> None:
    for count in range(LEAST[name]):
        before = exact(seeded.client)
        with pytest.raises(redis.ResponseError, match=r"^BADARG \w+ \S"):
            seeded.call(name, *VALID[name][:count])
        assert exact(seeded.client) == before


@pytest.mark.parametrize("name", sorted(VALID))
def test_extra_arguments(seeded: Shard, name: str) -> None:
    refused(seeded, name, *VALID[name], "one more", field="arguments")
    refused(seeded, name, *["x"] * 65, field="arguments")


@pytest.mark.parametrize("name", [*sorted(VALID), "job_claim"])
def test_wrong_keys(seeded: Shard, name: str) -> None:
    clustered = seeded.client.info("cluster")["cluster_enabled"]
    for key in ("", "fleet", "fleet:{}", "fleet:{0}:node:n1", "{0}", "fl eet:{0}", "fleet:{0}\0", "x" * 200 + ":{0}"):
        # a server of a cluster sends other hash slots away before it asks any function
        if key_slot(key.encode()) == key_slot(P.encode()) or not clustered:
            refused(seeded, name, *VALID.get(name, []), field="key", key=key)
    for keys in ([], [P, P]):
        with pytest.raises(redis.ResponseError, match=r"^BADARG key "):
            seeded.client.execute_command("FCALL", f"fleet1_{name}", len(keys), *keys, *VALID.get(name, []))


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ODD_CLAIM: dict[str, list[Any]] = {
    "id": [None, 7, True, [], {}, 1.5, *ODD_ID, "a:b:c"],
    "tenant": [None, 7, True, [], *ODD_ID],
    "digest": [7, [], "", "x" * 129],
    "demand": [None, 7, "", "{", "[]", "1", "null", '{"any_of":7}', '{"any_of":[]}', '{"any_of":[[]]}',
               '{"any_of":[7]}', '{"any_of":[[7]]}', '{"any_of":[["a b"]]}', '{"any_of":[[null]]}', "[" * 5000,
               '{"any_of":[' + ",".join(['["a"]'] * 33) + "]}", MIB],
    "pool": [7, "a b", "x" * 65, MIB],
    "exclude": [7, [], MIB],
    "config_version": [None, 7, "", "-1", "x"],
    "structure_version": [None, 7, "", "1.5", BIG],
    "nodes": [None, "n1", 7, [7], [["n1"]], ["n" * 65], ["n1"] * 513, [MIB]],
    "structures": [None, "1", [7], [True], ["1" * 17]],
    "ranks": [None, 7, ["1"], [0], [-1], [1.5], [float("nan")], [float("inf")], [2**60]],
    "session": [7, [], "", "a b", "x" * 129, MIB],
    "affinity": [7, "none", "x", True],
    "payload": [7, [], {}, MIB],
    "deliver": [7, "x", ""],
    "priority": [-1, 10, 1.5, "5", float("nan")],
    "ack_ms": [0, -1, 86_400_001, 1.5, "x", "5", float("nan"), float("inf"), float("-inf"), 1e300, True, []],
    "timeout_ms": [0, -1, 86_400_001, float("nan"), float("inf"), "x"],
    "max_attempts": [0, 101, float("nan"), "3"],
    "retry_failed": [2, "1", True],
    "fallback": [0, "yes"],
    "offered": [0, "no"],
    "look": [1, "no"],
    "last": [1, "no"],
    "elsewhere": [0, 1, "yes"],
    "hold": [7, True, [], *ODD_ID],
    "hold_ms": [0, -1, 60_001, 1.5, "5", float("nan"), float("inf"), True, []],
    "attempt": [-1, 10_001, 1.5, "1", float("nan"), True],
    "last_fence": [7, "", "-1", "x", "1.5", BIG],
    "created_at_ms": [7, "", "-1", "x", BIG],
    "releases": [-1, 1_001, 1.5, "1", float("nan")],
    "released_by": [7, "", "n1", "n1:", "n1:x", ":5", "a b:5", "x" * 100 + ":5"],
    "traceparent": [7, "", TRACE[:54], TRACE + "0", TRACE.upper(), "01" + TRACE[2:], TRACE.replace("7", "g"),
                    "\n" + TRACE[1:], TRACE[:35] + "0" + TRACE[36:], TRACE[:34] + "-" + TRACE[34] + TRACE[36:],
                    TRACE[:52] + "0-1",
                    TRACE[:-1] + "\n", MIB],
}  # fmt: skip


def test_each_odd_field_of_a_claim(seeded: Shard) -> None:
    good = msgpack.unpackb(seeded.packed("j2", "n1"))
    for field, values in ODD_CLAIM.items():
        for value in values:
            odd = msgpack.packb({**good, field: value}, use_bin_type=False)
            refused(seeded, "job_claim", odd, field=field)
            refused(seeded, "job_claim", seeded.packed("j3", "n1"), odd, field=field)
    for unknown in ("any_of", "retried", "avoid", "loads", "excluded", 7, True, "é"):
        refused(seeded, "job_claim", msgpack.packb({**good, unknown: 1}, use_bin_type=False), field="claim")


def test_how_long_to_hold_needs_what(seeded: Shard) -> None:
    good = msgpack.unpackb(seeded.packed("j2", "n1"))
    refused(seeded, "job_claim", msgpack.packb({**good, "hold_ms": 5}, use_bin_type=False), field="hold")


def test_a_claim_lacking_a_field_names_it(seeded: Shard) -> None:
    good = msgpack.unpackb(seeded.packed("j2", "n1"))
    for field in good.keys() - {"digest"}:
        less = {name: value for name, value in good.items() if name != field}
        refused(seeded, "job_claim", msgpack.packb(less, use_bin_type=False), field=field)


def test_a_claim_that_is_no_map_and_too_many_claims(seeded: Shard) -> None:
    good = seeded.packed("j2", "n1")
    for odd in (
        b"",
        b"\xc1",
        b"\xc0",
        b"\x07",
        b"\xa1x",
        b"\x91",
        good[:-1],
        good + b"\x00",
        MIB,
        b"\x91" * 1_048_576,
    ):
        refused(seeded, "job_claim", odd, field="claim")
    refused(seeded, "job_claim", field="claim")
    refused(seeded, "job_claim", *[good] * 17, field="claim")


_TEXT = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.sampled_from(
        [
            b"n1",
            b"j1",
            b"1",
            b"cpu",
            b"slots",
            b"capabilities",
            b"labels",
            b"running",
            b"drain",
            b"nan",
            b"gold",
            b"h1",
            b"thaw",
            b"0",
            b"{}",
            b'{"pools":{"a":{}}}',
            b'{"selector":{"all":true}}',
            b'{"requires":["gpu"]}',
        ]
    ),
)
_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=8), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def answered_well(shard: Shard, name: str, args: Args) -> None:
    if not shard.client.exists(f"{P}:node:n1"):
        shard.register()
    said = told(shard, name, *args)
    assert re.match(r"^(\[b'\w+'|BADARG [\w.-]+ \S)", said), said
    assert "user_function" not in said


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*sorted(VALID), "job_claim"]), args=st.lists(_TEXT, max_size=9))
def test_no_words_bring_a_function_to_raise(shard: Shard, name: str, args: list[bytes]) -> None:
    answered_well(shard, name, [*args])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=st.dictionaries(st.sampled_from(sorted(ODD_CLAIM)), _VALUE, max_size=3))
def test_no_claim_brings_a_function_to_raise(shard: Shard, changed: dict[str, Any]) -> None:
    if not shard.client.exists(f"{P}:node:n1"):
        shard.register()
    good = msgpack.unpackb(shard.packed("fuzz", "n1"))
    packed = msgpack.packb({**good, **changed}, use_bin_type=False, unicode_errors="surrogatepass")
    answered_well(shard, "job_claim", [packed])


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(allow_nan=False), st.text(max_size=8),
              st.sampled_from(["gold", "*", "asr:zh", "pack", "a b"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["gold", "a", "labels", "capabilities", "all", "max"]), inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
_FIELDS = ["selector", "tenants", "fallback", "strategy", "priority", "d", "languages", "max", "requires", "any_of",
           "tenant", "pool", "exclude", "all", "pools", "limits", "language_pools", "cpu_max"]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["pool_put", "pools_apply", "explain"]),
    given_fields=st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=4),
    base=st.sampled_from([{}, {"selector": {"all": True}}, {"requires": ["asr"]}, {"pools": {"gold": {}}}]),
)
def test_no_json_brings_a_function_to_raise(
    shard: Shard, name: str, given_fields: dict[str, Any], base: dict[str, Any]
) -> None:
    text = json.dumps({**base, **given_fields})
    first = {"pool_put": ["gold"], "pools_apply": [shard.meta("config_version")], "explain": []}[name]
    answered_well(shard, name, [*first, text])
