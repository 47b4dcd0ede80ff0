"""Over maxmemory: what frees or keeps alive goes through, what grows is refused and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard


@pytest.fixture
def fill(client: redis.Redis) -> Callable[[], bool]:
    """From now on the server is over its maxmemory."""
    return lambda: client.config_set("maxmemory", 1)


def test_finish_still_frees_the_slot(shard: Shard, fill: Callable[[], bool]) -> None:
    shard.register(slots=1)
    fence = shard.run()
    fill()
    assert shard.call("job_finish", "j1", fence, "succeeded", "r") == [b"finished"]
    state = dump(shard.client)
    assert (state["free"], state["job:j1"]["state"]) == ({"n1"}, "succeeded")
    assert not {"leases", "node:n1:leases"} & state.keys()


def test_a_large_result_is_dropped_and_marked_while_the_slot_is_freed(shard: Shard, fill: Callable[[], bool]) -> None:
    shard.register(slots=2)
    kept, dropped = shard.run(), shard.run("j2")
    shard.call("job_finish", "j1", kept, "succeeded", "r" * 2_000)
    fill()
    assert shard.call("job_finish", "j2", dropped, "succeeded", "r" * 2_000) == [b"finished"]
    state = dump(shard.client)
    assert state["job:j1"]["result"] == "r" * 2_000
    assert "result_dropped" not in state["job:j1"]
    assert (state["job:j2"]["result"], state["job:j2"]["result_dropped"]) == ("", "memory_full")
    assert not {"leases", "node:n1:leases"} & state.keys()


def test_heartbeat_start_cancel_mark_reap_remove_and_reading_work(shard: Shard, fill: Callable[[], bool]) -> None:
    incarnation = shard.register(slots=3)
    one, _ = shard.place("j1", max_attempts=1), shard.place("j2")
    fill()
    assert shard.call("node_heartbeat", "n1", incarnation, "cpu", 5)[0] == b"ok"
    assert shard.call("job_start", "j1", one)[0] == b"running"
    assert shard.call("job_cancel", "j2") == [b"cancelled"]
    assert shard.call("node_mark", "n1", "cordon") == [b"marked", b"cordoned"]
    assert shard.call("mirror_read", 0, 0, "")[0] == b"mirror"
    assert shard.call("library_read")[0] == b"library"
    assert shard.call("node_remove", "n1", incarnation) == [b"removed"]
    assert shard.call("reap") == [b"reaped", 0, 1, 1]


def test_a_heartbeat_keeps_its_node_alive_but_offers_nothing_that_is_longer(
    shard: Shard, fill: Callable[[], bool]
) -> None:
    incarnation = shard.register(capabilities="asr:zh asr:en")
    before = dump(shard.client)["node:n1"]
    fill()
    many = " ".join(f"{number}:{'x' * 100}" for number in range(1_000))
    for longer in (
        {"capabilities": many},
        {"labels": "zone=a"},
        {"capabilities": "asr", "labels": "zone=" + "a" * 99},
    ):
        told = shard.call(
            "node_heartbeat", "n1", incarnation, "cpu", 7, *(x for pair in longer.items() for x in pair)
        )
        assert (told[0], told[2:]) == (b"ok", [b"refused", b"memory_full"])
    state = dump(shard.client)
    assert (state["node:n1"]["cpu"], state["free"]) == ("7", {"n1"})
    assert {name: state["node:n1"][name] for name in ("capabilities", "labels")} == {
        name: before[name] for name in ("capabilities", "labels")
    }
    assert [name for name in state if name.startswith("cap:")] == ["cap:asr", "cap:asr:en", "cap:asr:zh"]
    assert shard.call("node_heartbeat", "n1", incarnation, "capabilities", "asr:en")[2:] == []
    assert "cap:asr:zh" not in dump(shard.client)
    shard.client.config_set("maxmemory", 0)
    assert shard.call("node_heartbeat", "n1", incarnation, "capabilities", many)[2:] == []


def test_what_ends_a_hold_or_a_move_works(shard: Shard, fill: Callable[[], bool]) -> None:
    shard.register(slots=1, ttl_ms=600_000)
    shard.claim("h1", "n1", digest="-", hold="h1", hold_ms=2_000)
    shard.claim("j1", "n1", wait_ms=60_000)
    shard.claim("j2", "n1", wait_ms=60_000)
    for job in ("j1", "k1"):
        shard.call("job_move", job, "1", "h9", *(["acme", "d"] if job == "k1" else []))
    shard.advance(1_900)
    shard.client.zadd(f"{P}:moved", {"k1": 1})
    fill()
    assert shard.call("queues_read", "r1")[0] == b"queues"
    assert shard.call("job_settle", "j1", "h9", 1) == [b"settled"]
    assert shard.call("moves_due", 32)[0] == b"due"
    assert shard.call("job_cancel", "k1") == [b"moved", b"1"]
    assert shard.call("hold_drop", "h1") == [b"dropped"]
    # the slot that is free serves the job that waits
    assert shard.field("job:j2", "state") == "claimed"
    assert shard.call("shard_find", "n1")[0] == b"shard"
    assert shard.call("shard_freeze", "freeze") == [b"frozen"]
    assert shard.call("shard_freeze", "thaw") == [b"thawed"]


def test_a_hold_lapses(shard: Shard, fill: Callable[[], bool]) -> None:
    shard.register(slots=1, ttl_ms=600_000)
    shard.claim("h1", "n1", digest="-", hold="h1", hold_ms=2_000)
    shard.advance(2_100)
    fill()
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert dump(shard.client)["free"] == {"n1"}


GROWS = ["job_claim", "node_register", "hold", "commit", "job_move", "job_return", "shard_init"]


@pytest.mark.parametrize("name", GROWS)
def test_what_grows_is_refused_and_changes_nothing(shard: Shard, fill: Callable[[], bool], name: str) -> None:
    shard.register()
    shard.claim("h1", "n1", digest="-", hold="h1", hold_ms=2_000)
    shard.call("job_move", "j5", "1", "h9", "acme", "d")
    args: dict[str, list[Any]] = {
        "job_claim": [shard.packed("j1", "n1")],
        "hold": [shard.packed("h2", "n1", digest="-", hold="h2", hold_ms=2_000)],
        "commit": [shard.packed("j1", hold="h1")],
        "job_move": ["j6", "1", "h9", "acme", "d"],
        "job_return": ["j5", "h9"],
        "shard_init": ["0 1"],
        "node_register": ["n2", "endpoint", "http://n2", "slots", "1", "capabilities", "gpu"],
    }
    before = exact(shard.client)
    fill()
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        shard.call("job_claim" if name in {"hold", "commit"} else name, *args[name])
    assert exact(shard.client) == before


def test_the_mark_of_a_dropped_result_goes_with_its_attempt(shard: Shard, fill: Callable[[], bool]) -> None:
    shard.register(slots=2)
    fence = shard.run(retry_failed=True)
    fill()
    assert shard.call("job_finish", "j1", fence, "failed", "r" * 2_000) == [b"finished"]
    shard.client.config_set("maxmemory", 0)
    shard.call("job_finish", "j1", shard.field("job:j1", "fence"), "succeeded", "r" * 2_000)
    job = dump(shard.client)["job:j1"]
    assert (job["state"], len(job["result"]), "result_dropped" in job) == ("succeeded", 2_000, False)
