"""node_mark: an operator's word decides whether the node takes new jobs; what it holds is untouched."""

import pytest

from tests.lua.keyspace import P, changes, dump, exact
from tests.lua.shard import Shard


@pytest.mark.parametrize(("mark", "state"), [("cordon", "cordoned"), ("drain", "draining")])
def test_a_marked_node_gains_no_claim_and_keeps_its_leases(shard: Shard, mark: str, state: str) -> None:
    shard.register()
    shard.place()
    before = dump(shard.client)
    now_ms = int(shard.meta("clock"))
    assert shard.call("node_mark", "n1", mark) == [b"marked", state.encode()]
    gone, new = changes(before, dump(shard.client))
    until = new["node:n1"].pop("drain_until_ms", None)
    if mark == "drain":
        assert now_ms + 30_000 <= int(until) < now_ms + 31_000
    else:
        assert until is None
    assert new.pop("events")[-1] == {"kind": f"node_{state}", "node": "n1"}
    version = shard.meta("version")
    assert new == {P: {"version": version}, "changed": {"n1": float(version)}, "node:n1": {"state": state}}
    assert gone["free"] == {"n1"}
    assert shard.claim("j2", "n1") == [b"refused", b"unavailable", [-1]]


def test_uncordon_makes_a_drained_node_as_it_was(shard: Shard) -> None:
    shard.register()
    before = dump(shard.client)
    shard.call("node_mark", "n1", "drain", 5000)
    assert shard.call("node_mark", "n1", "uncordon") == [b"marked", b"ready"]
    gone, new = changes(before, dump(shard.client))
    version = shard.meta("version")
    assert [entry["kind"] for entry in new.pop("events")][1:] == ["node_draining", "node_ready"]
    assert new == {P: {"version": version}, "changed": {"n1": float(version)}}
    assert gone.keys() == {P, "changed", "events"}


def test_uncordon_of_a_full_node_does_not_make_it_free(shard: Shard) -> None:
    shard.register(slots=1)
    shard.place()
    shard.call("node_mark", "n1", "cordon")
    shard.call("node_mark", "n1", "uncordon")
    assert "free" not in dump(shard.client)


@pytest.mark.parametrize("mark", ["cordon", "uncordon"])
def test_the_same_mark_again_changes_nothing(shard: Shard, mark: str) -> None:
    shard.register()
    shard.call("node_mark", "n1", mark)
    before = dump(shard.client)
    assert shard.call("node_mark", "n1", mark)[0] == b"marked"
    assert dump(shard.client) == before


def test_a_second_drain_sets_a_new_limit(shard: Shard) -> None:
    shard.register()
    shard.call("node_mark", "n1", "drain", 5000)
    first = int(shard.field("node:n1", "drain_until_ms"))
    shard.call("node_mark", "n1", "drain", 60_000)
    assert int(shard.field("node:n1", "drain_until_ms")) >= first + 55_000


def test_an_unknown_node_makes_no_key(shard: Shard) -> None:
    assert shard.call("node_mark", "n1", "cordon") == [b"unknown"]
    assert dump(shard.client) == {}


def test_a_lost_node_is_unknown(shard: Shard) -> None:
    shard.register()
    shard.advance(3000)
    shard.call("reap")
    before = exact(shard.client)
    assert shard.call("node_mark", "n1", "uncordon") == [b"unknown"]
    assert exact(shard.client) == before
