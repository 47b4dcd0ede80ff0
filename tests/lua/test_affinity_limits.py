"""What docs/affinity.md says that sessions and exclusion do not do: no place is kept, nothing is waited for."""

from scheduler.domain.ids import NodeId
from tests.lua.keyspace import P
from tests.lua.shard import Shard

N1 = frozenset({NodeId("n1")})


def session(shard: Shard) -> object:
    return shard.client.get(f"{P}:session:acme:s")


def test_a_sticky_session_stays_in_the_fallback_though_the_first_pool_has_room_again(shard: Shard) -> None:
    shard.put("rest")
    shard.put("first", selector={"labels": {"tier": "first"}}, fallback=["rest"], priority=9)
    incarnation = shard.register("n1", slots=5, ttl_ms=60_000, labels="tier=first")
    shard.register("n2", slots=5, ttl_ms=60_000)
    shard.call("node_mark", "n1", "cordon")
    assert shard.claim("a", "n2", session="s", affinity="sticky")[2] == b"n2"
    shard.call("node_mark", "n1", "uncordon")
    shard.call("node_heartbeat", "n1", incarnation)
    assert shard.claim("b", "n1", session="s", affinity="sticky")[2] == b"n2"
    assert shard.claim("c", "n1")[2] == b"n1", "without a session the first pool has it"


def test_a_job_that_waits_takes_the_first_slot_and_its_session_goes_along(shard: Shard) -> None:
    for node in ("n1", "n2"):
        shard.register(node, slots=1, ttl_ms=60_000)
    assert shard.claim("a", "n1", session="s", affinity="sticky")[2] == b"n1"
    fence = shard.run("b", "n2")
    assert shard.claim("c", "n1", "n2", session="s", affinity="sticky", wait_ms=60_000)[0] == b"waiting"
    assert shard.call("job_finish", "b", fence, "succeeded") == [b"finished"]
    assert (shard.field("job:c", "state"), shard.field("job:c", "node")) == ("claimed", "n2")
    assert session(shard) == b"n2"


def test_a_retry_goes_elsewhere_and_takes_the_session_along(shard: Shard) -> None:
    for node in ("n1", "n2"):
        shard.register(node, slots=5, ttl_ms=60_000)
    fence = shard.run("a", "n1", session="s", affinity="sticky", retry_failed=True)
    assert shard.call("job_finish", "a", fence, "failed") == [b"finished"]
    assert (shard.field("job:a", "state"), shard.field("job:a", "node")) == ("claimed", "n2")
    assert session(shard) == b"n2"


def test_an_exclusion_holds_for_a_retry_and_for_a_job_that_waits(shard: Shard) -> None:
    shard.register("n1", slots=5, ttl_ms=60_000)
    shard.register("n2", slots=1, ttl_ms=60_000)
    fence = shard.run("a", "n2", exclude=N1, retry_failed=True, max_attempts=2)
    assert shard.claim("b", "n2", exclude=N1, wait_ms=60_000)[0] == b"waiting"
    assert shard.call("job_finish", "a", fence, "failed") == [b"finished"]
    places = {job: (shard.field(f"job:{job}", "state"), shard.field(f"job:{job}", "node")) for job in "ab"}
    assert sorted(places.values()) == [("claimed", "n2"), ("pending", "")]
    assert shard.client.zcard(f"{P}:node:n1:leases") == 0


def test_spread_remembers_only_the_last_node(shard: Shard) -> None:
    for node in ("n1", "n2"):
        shard.register(node, slots=5, ttl_ms=60_000)
    told = [shard.claim(job, "n1", session="s", affinity="spread")[2] for job in ("a", "b", "c")]
    assert told == [b"n1", b"n2", b"n1"]
    assert 0 < int(shard.client.pttl(f"{P}:session:acme:s")) <= 30_000
