"""The rules of deploy/acl/users.acl are those that the function suite needs: one less breaks it, none is too many."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scheduler.store.library import source_folder
from tests.deploy.reach import commands_of
from tests.deploy.roles import FUNCTIONS, KINDS, USERS, P, Secured, secured
from tests.deploy.trace import FOLDER, Ran, read_traces

# What the programs of a role send beside their calls, and what a person types.
BESIDE = {
    "node": ["PING", "CLUSTER SLOTS", f"XREAD COUNT 100 BLOCK 1000 STREAMS {P}:node:n1:inbox 0"],
    "scheduler": [
        "PING", "CLUSTER SLOTS", "CLUSTER NODES", "FUNCTION LIST", "INFO replication", "TIME",
        f"HMGET {P}:job:j state", f"HGETALL {P}:node:n",
        f"ZCARD {P}:node:n:leases", f"ZSCAN {P}:nodes 0", f"HGETALL {P}:pools", f"SCARD {P}:pool:a",
        f"SINTERCARD 2 {P}:free {P}:pool:a", f"ZCOUNT {P}:settled -inf 1", f"HGETALL {P}", f"ZCARD {P}:leases",
        f"XRANGE {P}:events - +", f"XREVRANGE {P}:events + -", f"XREAD BLOCK 1000 STREAMS {P}:events 0",
        f"XRANGE {P}:audit - +", f"XREVRANGE {P}:audit + -", f"XREAD BLOCK 1000 STREAMS {P}:audit 0",
        f"HGETALL {P}:tenants", f"ZCARD {P}:tenant:a:leases", f"HKEYS {P}:waiting",
        # the counts of requests, and what their script runs
        "SCRIPT LOAD x", f"EVALSHA x 2 {P}:rate:a:before {P}:rate:a 5 1 1", f"PTTL {P}:rate:a", f"GET {P}:rate:a",
        f"RENAME {P}:rate:a {P}:rate:a:before", f"SET {P}:rate:a 0 PX 5", f"EXISTS {P}:rate:a",
        f"INCRBY {P}:rate:a 1",
    ],
    "inspector": [
        "PING", f"TYPE {P}:nodes", f"EXISTS {P}:nodes", f"TTL {P}:session:a:b", f"PTTL {P}:session:a:b",
        f"MEMORY USAGE {P}:nodes", f"GET {P}:session:a:b", f"HGET {P} epoch", f"HMGET {P} epoch", f"HGETALL {P}",
        f"HKEYS {P}:waiting", f"HLEN {P}:waiting", f"HSCAN {P}:pools 0", f"SMEMBERS {P}:free",
        f"SISMEMBER {P}:free n",
        f"SMISMEMBER {P}:free n", f"SCARD {P}:free", f"SSCAN {P}:free 0", f"SRANDMEMBER {P}:free",
        f"SINTER {P}:free {P}:cap:gpu", f"SINTERCARD 1 {P}:free", f"SUNION {P}:free {P}:cap:gpu",
        f"SDIFF {P}:cap:gpu {P}:free", f"ZRANGE {P}:nodes 0 4", f"ZRANGEBYSCORE {P}:nodes 0 1",
        f"ZREVRANGE {P}:nodes 0 4", f"ZSCORE {P}:nodes n", f"ZRANK {P}:nodes n", f"ZCARD {P}:leases",
        f"ZCOUNT {P}:leases 0 1", f"ZSCAN {P}:leases 0", f"ZINTER 2 {P}:nodes {P}:lost",
        f"ZINTERCARD 2 {P}:nodes {P}:lost", f"ZDIFF 2 {P}:nodes {P}:lost", f"XLEN {P}:events",
        f"XRANGE {P}:events - +", f"XREVRANGE {P}:events + -", f"XREAD STREAMS {P}:events 0",
        f"XINFO STREAM {P}:events", "TIME", "INFO", "DBSIZE", "ROLE", "SLOWLOG GET", "SLOWLOG LEN", "LATENCY LATEST",
        "LATENCY HISTORY command", "LATENCY DOCTOR", "MEMORY STATS", "MEMORY DOCTOR", "CLIENT LIST", "ACL WHOAMI",
        "FUNCTION LIST", "FUNCTION STATS", "CLUSTER INFO", "CLUSTER NODES", "CLUSTER SLOTS", "CLUSTER SHARDS",
        "CLUSTER KEYSLOT x",
    ],
    "replica": ["PING", "REPLCONF ack 1", "PSYNC ? -1"],
    # as the documentation of Sentinel lists them
    "sentinel": [
        "MULTI", "EXEC", "PING", "INFO", "ROLE", "SLAVEOF NO ONE", "PUBLISH __sentinel__:hello x",
        "SUBSCRIBE __sentinel__:hello", "CONFIG REWRITE", "CLIENT SETNAME x", "CLIENT KILL TYPE normal",
        "SCRIPT KILL",
    ],
}  # fmt: skip
# A function that does all that another one does.
INSIDE = {"node_heartbeat": "reap"}
# What a rule that only takes away must keep from every role.
NEVER = ["CLIENT PAUSE 1"]
# A default of the servers that their configuration could change.
KEPT = {"resetchannels"}

Command = Sequence[str]


def traced(folder: Path) -> list[Ran]:
    """What each function ran in the suite of tests/lua, but for tests of refusals and of time, which add nothing."""
    without = [f"--ignore=tests/lua/test_{name}.py" for name in ("bad_arguments", "budgets", "headers", "memory")]
    argv = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "tests.deploy.trace", *without, "tests/lua"]
    root = Path(__file__).parents[2]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ |= {FOLDER: str(folder), "PYTHONPATH": str(root)}
    done = subprocess.run(argv, cwd=root, env=environ, capture_output=True, text=True, timeout=500, check=False)
    # a test that fails there is told there
    assert done.returncode in {0, 1}, done.stdout[-3_000:]
    return read_traces(folder)


def needed(role: str, ran: Sequence[Ran]) -> list[Command]:
    """Every command that must be allowed, one of each kind, the calls themselves first."""
    own = [name for name, roles in FUNCTIONS.items() if role in roles.split()]
    call = "FCALL_RO" if role == "inspector" else "FCALL"
    calls = [[call, f"fleet1_{name}", "1", shard] for name in own for shard in (P, "fleet:{7}")]
    run = {*own, *(INSIDE[name] for name in own if name in INSIDE)}
    audit = f"{P}:audit"
    # a node names nobody, and so writes no audit
    inside = {
        one.kind: one.words for one in ran if one.function in run and (role != "node" or audit not in one.words)
    }
    return [*calls, *map(shlex.split, BESIDE[role]), *inside.values()]


def denied(server: Secured, user: str, commands: Sequence[Command]) -> list[str]:
    """Those of the commands that the user may not run, in a few words."""
    with server.admin.pipeline(transaction=False) as pipe:
        pipe.response_callbacks.clear()
        for words in commands:
            pipe.execute_command("ACL", "DRYRUN", user, *words)
        answers = pipe.execute()
    return [" ".join(words[:3])[:80] for words, answer in zip(commands, answers, strict=True) if answer != b"OK"]


def weaker(rule: str) -> Iterator[str]:
    """The rule with less in it; '' is without it."""
    if rule.startswith("("):
        inner = rule[1:-1].split(" ")
        for at, part in enumerate(inner):
            for less in weaker(part):
                yield f"({' '.join([*inner[:at], *filter(None, [less]), *inner[at + 1 :]])})"
    yield ""
    if rule.startswith("~"):
        yield f"%R{rule}"
        yield f"%W{rule}"


def rules_of(role: str) -> list[str]:
    line = next(line for line in USERS.read_text("ascii").splitlines() if line.startswith(f"user {role} "))
    return [rule for rule in re.findall(r"\([^)]*\)|\S+", line)[3:] if not rule.startswith("#")]


def too_many(server: Secured, rules: Sequence[str], commands: Sequence[Command]) -> tuple[list[str], int]:
    """The rules that could be weaker or left out, and how many weaker forms were tried."""
    found, tried, never = [], 0, list(map(shlex.split, NEVER))
    for at, rule in enumerate(rules):
        for less in weaker(rule) if rule not in KEPT else ():
            rest = [*rules[:at], *filter(None, [less]), *rules[at + 1 :]]
            server.ask("ACL", "SETUSER", "probe", "reset", "on", *rest)
            tried += 1
            if len(denied(server, "probe", never)) == len(never) and not denied(server, "probe", commands):
                found.append(f"{rule} -> {less or 'nothing'}")
    return found, tried


@pytest.mark.parametrize("role", ["scheduler", "node"])
def test_no_way_through_the_functions_ends_at_a_command_that_is_not_allowed(role: str) -> None:
    """By the source: a heartbeat that reaps goes where no test of a heartbeat goes."""
    reached = commands_of(source_folder())
    assert len(reached["node_heartbeat"]) > 20
    needed = set().union(*(reached[name] for name, roles in FUNCTIONS.items() if role in roles.split()))
    allowed = set(re.findall(r"(?<=\+)[a-z]+(?=[ )]|$)", " ".join(rules_of(role))))
    assert needed - allowed == set()


# one test, for the suite that it watches is run once
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_rule_is_needed_and_none_is_missing(tmp_path: Path) -> None:
    ran = traced(tmp_path)
    assert {one.function for one in ran} == set(FUNCTIONS) - {"library_read"}, "each was watched"
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        with secured(kind, folder) as server:
            for role in BESIDE:
                rules, commands = rules_of(role), needed(role, ran)
                assert denied(server, role, commands) == [], f"missing for {role} on {kind}"
                # a rule that nobody needs is put in, for the tester must not be blind
                found, tried = too_many(server, [*rules, "+lpush"], commands)
                print(f"{kind} {role}: {len(rules)} rules in {tried} weaker forms, {len(commands)} commands")
                assert found == ["+lpush -> nothing"], f"more than {role} needs on {kind}"
