"""The verdict of the soak sees what it is there for: each rule broken on purpose turns it red."""

from pathlib import Path

import pytest
import redis

from tests.lua.keyspace import P
from tests.lua.shard import Shard
from tests.soak.audit import audit_once
from tests.soak.ledger import CANCELLED, CLAIMED, FINISHED, REFUSED_ONCE, SENT, WAITING, Books, Ledger, read_books
from tests.soak.verdict import compare, free_differs, unsettled

JOB = f"{P}:job:a:1"


def done(client: redis.Redis) -> str:
    """One job that came to its end; answers its fence."""
    shard = Shard(client)
    shard.register("n1", "any", slots=2)
    fence = shard.place("a:1", "n1", requires="any", deliver="direct")
    shard.call("job_finish", "a:1", fence, "succeeded", f"a:1 {fence}")
    return fence


def booked(fence: str) -> Books:
    books = Books()
    for line in (
        (SENT, "a:1", "a:2"),
        (CLAIMED, "a:1", fence),
        (FINISHED, "a:1", fence, "succeeded", f"a:1 {fence}"),
    ):
        books.take("\t".join(line))
    return books


def test_what_was_acknowledged_and_is_there_breaks_no_rule(client: redis.Redis) -> None:
    counts, bad, examples = compare(client, P, booked(done(client)))
    assert (bad, examples, unsettled(client, P), free_differs(client, P)) == ({}, [], [], set())
    assert (counts["jobs"], counts["ids sent"], counts["state succeeded"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ((FINISHED, "a:1", "1", "succeeded", "a:1 1"), "result doubled"),
        ((FINISHED, "a:1", "1", "succeeded", "a:1 1"), "acknowledged result lost"),
        ((CANCELLED, "a:1"), "acknowledged end lost"),
        ((CLAIMED, "a:1", "9007199254740992"), "fence went back"),
        ((WAITING, "a:2"), "acknowledged job lost"),
        ((REFUSED_ONCE, "a:1"), "refused but placed"),
    ],
)
def test_an_acknowledgement_that_redis_does_not_bear_out_is_seen(
    client: redis.Redis, line: tuple[str, ...], rule: str
) -> None:
    books = booked(done(client))
    books.take("\t".join(line))
    _, bad, examples = compare(client, P, books)
    assert bad[rule] == 1
    assert any(example.startswith(rule) for example in examples)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (("HSET", JOB, "state", "claimed"), "not ended"),
        (("HSET", JOB, "result", "a:1 7"), "result of another attempt"),
        (("PERSIST", JOB), "kept for ever"),
        (("HSET", JOB, "lingering", "1"), "kept for ever"),
        (("HSET", f"{P}:job:b:1", "state", "failed"), "job that nobody sent"),
    ],
)
def test_a_job_that_is_not_as_it_should_be_is_seen(client: redis.Redis, command: tuple[str, ...], rule: str) -> None:
    books = booked(done(client))
    client.execute_command(*command)
    assert compare(client, P, books)[1][rule] == 1


def test_a_slot_an_entry_and_a_node_left_out_are_seen(client: redis.Redis) -> None:
    shard = Shard(client)
    shard.register("n1", "any", slots=1)
    shard.place("a:1", "n1", requires="any")
    assert unsettled(client, P) == [f"{P}:leases"]
    client.delete(f"{P}:leases")
    assert unsettled(client, P) == [f"{P}:node:n1:inbox", f"{P}:node:n1:leases", f"{P}:tenant:acme:leases"]
    assert free_differs(client, P) == {"n1"}


def test_the_audit_sees_more_leases_than_slots_and_leases_of_nobody(client: redis.Redis) -> None:
    shard = Shard(client)
    shard.register("n1", "any", slots=1)
    shard.place("a:1", "n1", requires="any")
    assert not {name: n for name, n in audit_once(client, P)[0].items() if name.startswith("bad:") and n}
    client.zadd(f"{P}:node:n1:leases", {"a:2": 1})
    client.sadd(f"{P}:free", "n1")
    found, example = audit_once(client, P)
    assert "a:2" in example
    assert [found[f"bad: {name}"] for name in ("oversubscribed", "full but free", "a lease of nobody")] == [1, 1, 1]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "one.ledger"
    Ledger(path).write([(SENT, "a:1"), (WAITING, "a:1")])
    with path.open("ab") as file:
        file.write(b"c\ta:1\t17")
    books = read_books(tmp_path)
    assert (books.sent, set(books.known), books.known["a:1"].fence) == ({"a:1"}, {"a:1"}, 0)
