"""node_heartbeat: the node lives, this is its load; it never touches a lease, and hears what it should stop."""

import pytest
import redis

from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard


def test_a_heartbeat_moves_the_deadline_and_nothing_else(shard: Shard) -> None:
    incarnation = shard.register()
    shard.place()
    before = dump(shard.client)
    shard.advance(1000)
    assert shard.call("node_heartbeat", "n1", incarnation) == [b"ok", 3000]
    gone, new = changes(before, dump(shard.client))
    assert new.keys() == {P, "nodes", "node:n1", "changed"}
    # one lease on two slots: the free share moved by a half, which mirrors learn; and this turn reaped
    assert new["node:n1"] == {"share": "0.500"}
    assert new[P] == {"version": shard.meta("version"), "reaped_ms": NOW}
    assert gone["nodes"]["n1"] + 1000 <= new["nodes"]["n1"] < gone["nodes"]["n1"] + 2000
    assert new["nodes"]["n1"] == int(shard.meta("reaped_ms")) + 3000


def test_a_share_that_moved_by_less_than_a_tenth_is_no_news(shard: Shard) -> None:
    incarnation = shard.register(slots=25)
    shard.place("j1")
    version = shard.meta("version")
    shard.call("node_heartbeat", "n1", incarnation)
    assert (shard.meta("version"), shard.field("node:n1", "share")) == (version, "1")
    shard.place("j2")
    shard.place("j3")
    shard.call("node_heartbeat", "n1", incarnation)
    assert (shard.meta("version"), shard.field("node:n1", "share")) == (str(int(version) + 1), "0.880")


def test_load_over_a_threshold_takes_the_node_out_and_back_in(shard: Shard) -> None:
    incarnation = shard.register()
    version = int(shard.meta("version"))
    shard.call("node_heartbeat", "n1", incarnation, "cpu", "85.1")
    state = dump(shard.client)
    assert "free" not in state
    assert (state["changed"], state["node:n1"]["cpu"]) == ({"n1": version + 1}, "85.1")
    shard.call("node_heartbeat", "n1", incarnation, "cpu", "85.2")
    assert int(shard.meta("version")) == version + 1, "no news"
    shard.call("node_heartbeat", "n1", incarnation, "cpu", "85")
    state = dump(shard.client)
    assert (state["free"], state["changed"]) == ({"n1"}, {"n1": version + 2})


def test_new_capabilities_move_the_index_and_the_structure_version(shard: Shard) -> None:
    incarnation = shard.register(capabilities="asr:zh gpu")
    shard.call("node_heartbeat", "n1", incarnation, "capabilities", "asr:en gpu")
    state = dump(shard.client)
    assert {key: state[key] for key in state if key.startswith("cap:")} == {
        "cap:asr:en": {"n1"}, "cap:asr": {"n1"}, "cap:gpu": {"n1"},
    }  # fmt: skip
    assert state["node:n1"]["structure"] == shard.meta("structure_version") == shard.meta("version")
    again = shard.meta("version")
    shard.call("node_heartbeat", "n1", incarnation, "capabilities", "asr:en gpu", "slots", 2, "labels", "")
    assert shard.meta("version") == again, "the same structure is no news"


@pytest.mark.parametrize(("name", "value"), [("labels", "zone=b"), ("slots", "7"), ("capabilities", "")])
def test_each_part_of_the_structure_is_news(shard: Shard, name: str, value: str) -> None:
    incarnation = shard.register()
    structure = int(shard.meta("structure_version"))
    shard.call("node_heartbeat", "n1", incarnation, name, value)
    assert int(shard.meta("structure_version")) > structure
    assert shard.field("node:n1", name) == value


def test_slots_below_the_leases_evict_nothing_and_close_the_node(shard: Shard) -> None:
    incarnation = shard.register(slots=3)
    for job in ("j1", "j2", "j3"):
        shard.place(job)
    shard.call("node_heartbeat", "n1", incarnation, "slots", 4)
    assert dump(shard.client)["free"] == {"n1"}
    shard.call("node_heartbeat", "n1", incarnation, "slots", 1)
    state = dump(shard.client)
    assert "free" not in state
    assert set(state["node:n1:leases"]) == set(state["leases"]) == {"j1", "j2", "j3"}


def test_a_listed_job_that_redis_does_not_know_so_gets_a_fenced_cancel(shard: Shard) -> None:
    incarnation = shard.register(slots=5)
    shard.register("n2")
    mine, other = shard.run("j1"), shard.run("j2", "n2")
    ended = shard.run("j3")
    shard.call("job_finish", "j3", ended, "succeeded")
    stale = str(int(mine) - 1)
    leases = dump(shard.client)["leases"]
    running = f"j1 {mine} j1 {stale} j2 {other} j3 {ended} nobody 7"
    reply = shard.call("node_heartbeat", "n1", incarnation, "running", running)
    told = [f"j1 {stale}", f"j2 {other}", f"j3 {ended}", "nobody 7"]
    assert reply == [b"ok", 3000, *(word for job in told for word in (b"cancel", job.encode()))]
    assert dump(shard.client)["leases"] == leases
    assert shard.field("node:n1", "running") == ""


def test_absence_from_the_list_never_ends_a_lease(shard: Shard) -> None:
    incarnation = shard.register()
    shard.run()
    assert shard.call("node_heartbeat", "n1", incarnation, "running", "") == [b"ok", 3000]
    assert set(dump(shard.client)["leases"]) == {"j1"}


def test_a_cancelled_job_is_told_at_each_heartbeat_until_it_is_confirmed(shard: Shard) -> None:
    incarnation = shard.register()
    fence = shard.run()
    shard.call("job_cancel", "j1")
    told = [b"ok", 3000, b"cancel", f"j1 {fence}".encode()]
    assert shard.call("node_heartbeat", "n1", incarnation) == told
    assert shard.call("node_heartbeat", "n1", incarnation) == told
    shard.call("job_finish", "j1", fence, "failed")
    assert shard.call("node_heartbeat", "n1", incarnation) == [b"ok", 3000]


def test_a_draining_node_hears_what_time_is_left(shard: Shard) -> None:
    incarnation = shard.register(ttl_ms=60_000)
    shard.call("node_mark", "n1", "drain", 5000)
    ok, ttl_ms, word, left_ms = shard.call("node_heartbeat", "n1", incarnation)
    assert (ok, ttl_ms, word) == (b"ok", 60_000, b"drain")
    assert 4000 < left_ms <= 5000
    shard.advance(6000)
    assert shard.call("node_heartbeat", "n1", incarnation)[2:] == [b"drain", 0]
    assert "free" not in dump(shard.client)


def test_a_late_heartbeat_before_reaping_revives_the_node(shard: Shard) -> None:
    incarnation = shard.register()
    shard.run()
    shard.advance(10_000)
    assert shard.call("node_heartbeat", "n1", incarnation) == [b"ok", 3000]
    state = dump(shard.client)
    assert (state["node:n1"]["state"], state["free"], set(state["leases"])) == ("ready", {"n1"}, {"j1"})


def test_after_reaping_the_node_is_unknown_and_nothing_changes(shard: Shard) -> None:
    incarnation = shard.register()
    shard.advance(3000)
    shard.call("reap")
    before = exact(shard.client)
    assert shard.call("node_heartbeat", "n1", incarnation, "slots", 9) == [b"unknown"]
    assert exact(shard.client) == before


def test_another_incarnation_is_fenced_and_changes_nothing(shard: Shard) -> None:
    old = shard.register()
    shard.register()
    before = exact(shard.client)
    assert shard.call("node_heartbeat", "n1", old, "cpu", 99) == [b"fenced"]
    assert exact(shard.client) == before


def test_an_unknown_node_makes_no_key(shard: Shard) -> None:
    assert shard.call("node_heartbeat", "n1", 1) == [b"unknown"]
    assert dump(shard.client) == {}


def test_a_heartbeat_reaps_other_nodes_once_per_100_ms(shard: Shard) -> None:
    shard.register("old")
    shard.advance(2000)
    incarnation = shard.register("n1")
    shard.advance(1500)
    shard.call("node_heartbeat", "n1", incarnation)
    assert shard.field("node:old", "state") == "lost"
    shard.client.hset(P, "reaped_ms", 10**15)
    shard.register("two", ttl_ms=100)
    shard.advance(1000)
    shard.call("node_heartbeat", "n1", incarnation)
    assert shard.field("node:two", "state") == "ready", "the last turn was less than 100 ms ago"


def test_a_new_configuration_is_taken_up_by_the_next_heartbeat(shard: Shard) -> None:
    incarnation = shard.register(capabilities="gpu")
    shard.client.hset(f"{P}:pools", "gold", '{"selector":{"capabilities":["gpu"]}}')
    shard.client.hset(P, "config_version", 1)
    shard.call("node_heartbeat", "n1", incarnation)
    state = dump(shard.client)
    assert (state["pool:gold"], state["settled"]) == ({"n1"}, {"n1": 1.0})
    assert "pool:default" not in state
    assert (state["node:n1"]["pools"], state["node:n1"]["config_version"]) == ("gold", "1")


_LOADS = (
    (),
    ("cpu", "12"),
    ("cpu", "85", "gpu", "0", "mem", "84.9"),
    ("mem", "85.01"),
    ("gpu", "100"),
    ("gpu", "5."),
)


@pytest.mark.parametrize("leases", [0, 1, 2])
@pytest.mark.parametrize("before", ["10", "90"])
@pytest.mark.parametrize("loads", _LOADS)
def test_the_short_way_of_a_heartbeat_leaves_what_the_long_way_does(
    shard: Shard, loads: tuple[str, ...], before: str, leases: int
) -> None:
    """A node that has a field more than others is never taken the short way."""
    left = []
    for plain in (True, False):
        shard.client.flushall()
        incarnation = shard.register(slots=2, cpu=before)
        fences = [shard.claim(f"j{i}", "n1")[0] for i in range(leases)]
        if not plain:
            shard.client.hset(f"{P}:node:n1", "odd", "1")
        shard.call("reap")
        told = shard.call("node_heartbeat", "n1", incarnation, *loads)
        state = dump(shard.client)
        state["node:n1"].pop("odd", None)
        # numbers that rise with time: compared by who has them
        for key in ("nodes", "leases", "node:n1:leases", "tenant:acme:leases"):
            state[key] = sorted(state.get(key, ()))
        for key in [P, "node:n1", "events", *(f"job:j{i}" for i in range(leases))]:
            state[key] = str(state.get(key)).replace(incarnation, "I")
        fields = str({key: value for key, value in state.items() if not key.startswith(("job:", "node:n1:inbox"))})
        left.append((told, fences, fields))
    assert left[0] == left[1]


def test_loads_that_are_given_twice_or_under_other_names_are_refused_on_the_short_way_too(shard: Shard) -> None:
    incarnation = shard.register()
    for odd in (
        ("cpu", "1", "cpu", "2"),
        ("cpu", "1", "gpu", "1", "cpu", "1"),
        ("cpu",),
        ("cpus", "1"),
        ("cpu", "x"),
    ):
        with pytest.raises(redis.ResponseError, match=r"^BADARG "):
            shard.call("node_heartbeat", "n1", incarnation, *odd)
