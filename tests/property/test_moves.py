"""Everybody may stop and every call may come late or twice: no job that moves between shards is lost or doubled."""

import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.property.moving import (
    TAGS,
    Actor,
    Answer,
    Call,
    Keys,
    canceller_of,
    client_of,
    ender_of,
    execute,
    home,
    mover_of,
    nodes_of,
    prefix,
    read_all,
)

JOBS = tuple(next(name for name in map("acme:j{}".format, range(100)) if home(name) == tag) for tag in ("0", "1"))
SLOTS = 1
FAR_MS = 3_000_000
# a hold lapses, a move is due, a claim was not acknowledged, a job waited too long, a settled move is looked after
JUMPS_MS = (500, 2_100, 2_600, 10_500, 61_000, 600_500)
CALLS_MAX = 400
BURSTS_MAX = 20

tag = st.sampled_from(TAGS)
picked = st.integers(0, 10_000)
# Each as often as it stands here.
STEPS = (
    *["client_begins", "mover_begins", "hold_lapses", "actor_ends"] * 3,
    *["actor_goes_on"] * 7,
    *["ender_begins", "call_comes_late_or_twice", "something_happens_to_a_shard"] * 2,
    *["canceller_begins", "actor_stops_with_its_call_under_way", "node_works", "time_is_over"],
)


class Moves(RuleBasedStateMachine):
    """Three shards, who works on them, and what they were told."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.actors: list[tuple[Actor, Call, str | None]] = []
        self.mail: list[Call] = []
        self.delivered: list[tuple[str, str, str]] = []
        self.fences: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.ended: set[str] = set()
        self.number = 0
        self.with_nodes: tuple[str, ...] = TAGS
        self.marked: dict[str, set[tuple[str, str]]] = {}
        self.keys: Keys = {}

    @initialize(
        with_nodes=st.sampled_from((("0", "1"), ("0", "2"), TAGS)),
        starts=st.tuples(*[st.sampled_from(("", "waits", "waits away"))] * len(JOBS)),
    )
    def divide(self, with_nodes: tuple[str, ...], starts: tuple[str, ...]) -> None:
        """Jobs may wait to begin with, in the shard of their id or, for they lost a node there, in another one."""
        self.with_nodes = with_nodes
        for each in TAGS:
            self.fcall(each, "shard_init", " ".join(TAGS))
        waiting = set()
        for job, start in zip(JOBS, starts, strict=True):
            away = next(each for each in with_nodes if each != home(job))
            if start == "waits away":
                self.register(away)
            if start:
                self.finished(client_of(job, (home(job), away), f"first{job[-1]}", waits=True))
                self.acknowledged.add(job)
                self.look()
                self.node_is_lost(away)
                waiting.add(away if start == "waits away" else home(job))
        self.look()
        for each in with_nodes:
            if each not in waiting:
                self.register(each)

    @rule(steps=st.lists(st.tuples(st.sampled_from(STEPS), picked, tag), min_size=2, max_size=6))
    def go_on(self, steps: list[tuple[str, int, str]]) -> None:
        for name, number, where in steps:
            getattr(self, name)(number, where)
            self.look()

    # who works, and what may come between two of their calls

    def fcall(self, where: str, name: str, *args: str | int | bytes) -> Answer:
        return execute(self.client, Call(where, name, args))

    def begin(self, actor: Actor, about: str | None = None) -> None:
        self.actors.append((actor, next(actor), about))
        if len(self.actors) > 6:
            self.actors.pop(0)

    def client_begins(self, number: int, where: str) -> None:
        self.number += 1
        job, first = JOBS[number % len(JOBS)], where if number % 3 == 0 else home(JOBS[number % len(JOBS)])
        order = (first, *(each for each in TAGS if each != first))
        self.begin(client_of(job, order, f"c{self.number}", waits=number % 5 < 3), job)

    def mover_begins(self, number: int, _where: str) -> None:
        """Of a job that waits, if there is one; to a shard that has a free node, if there is one."""
        self.number += 1
        waits = [(each, name[4:]) for each in TAGS for name, found in self.keys[each].items()
                 if name.startswith("job:") and found["state"] == "pending"]  # fmt: skip
        shard, job = waits[number % len(waits)] if waits else (TAGS[number % 3], JOBS[number % 2])
        others = sorted((each for each in self.with_nodes if each != shard), key=lambda each: each != home(job))
        roomy = [each for each in others if "free" in self.keys[each]] or others
        self.begin(mover_of(shard, roomy[number // 7 % 2 * (len(roomy) - 1)], job, f"m{self.number}"))

    def ender_begins(self, _number: int, where: str) -> None:
        self.begin(ender_of(where))

    def canceller_begins(self, number: int, _where: str) -> None:
        self.begin(canceller_of(JOBS[number % len(JOBS)]))

    def advance_actor(self, at: int) -> None:
        at %= len(self.actors)
        actor, call, about = self.actors.pop(at)
        answer = execute(self.client, call)
        self.mail.append(call)
        try:
            self.actors.insert(at, (actor, actor.send(answer), about))
        except StopIteration as end:
            if about and end.value and end.value[0] in {"placed", "exists", "waiting"}:
                self.acknowledged.add(about)

    def actor_goes_on(self, number: int, _where: str) -> None:
        """Mostly the one that came last."""
        if self.actors:
            self.advance_actor(-1 - (number % len(self.actors) if number % 2 else 0))

    def actor_ends(self, number: int, where: str) -> None:
        count = len(self.actors)
        for _ in range(CALLS_MAX):
            if not self.actors or len(self.actors) < count:
                return
            self.actor_goes_on(number, where)
            self.look()
        raise AssertionError("goes from shard to shard for ever")

    def actor_stops_with_its_call_under_way(self, number: int, _where: str) -> None:
        if self.actors:
            self.mail.append(self.actors.pop(number % len(self.actors))[1])

    def call_comes_late_or_twice(self, number: int, _where: str) -> None:
        if self.mail:
            execute(self.client, self.mail[number % len(self.mail)])

    # what the nodes do, and time

    def hold_lapses(self, number: int, _where: str) -> None:
        holding = [
            each
            for each in TAGS
            if any(name.startswith("hold:") and found for name, found in self.keys[each].items())
        ]
        if holding:
            self.reap(2_600 if number % 2 else 2_100, holding[number // 2 % len(holding)])

    def register(self, tag: str) -> None:
        for node in nodes_of(tag, 1) if tag in self.with_nodes else ():
            self.fcall(tag, "node_register", node, "endpoint", "http://n", "slots", SLOTS, "capabilities", "gpu",
                       "ttl_ms", 3_600_000)  # fmt: skip

    def node_works_no_more_for_a_while(self, tag: str) -> None:
        self.node_is_lost(tag)
        self.register(tag)

    def node_is_lost(self, tag: str) -> None:
        self.client.zadd(f"{prefix(tag)}:nodes", {nodes_of(tag, 1)[0]: 1}, xx=True)
        self.fcall(tag, "reap")

    def node_is_marked(self, tag: str) -> None:
        held = self.keys[tag].get(f"node:{nodes_of(tag, 1)[0]}", {})
        self.fcall(tag, "node_mark", nodes_of(tag, 1)[0], "uncordon" if held.get("state") == "cordoned" else "cordon")

    def node_works(self, number: int, _where: str) -> None:
        """With any fence that was ever delivered; only that of the one live lease may bring anything about."""
        if not self.delivered:
            return
        where, job, fence = self.delivered[-1 - number // 8 % len(self.delivered)]
        outcome = ("", "succeeded", "failed", "released")[number % 4]
        if number // 4 % 2 and self.fcall(where, "job_start", job, fence)[0] == "running":
            assert int(fence) == self.fences[job]
        if outcome and self.fcall(where, "job_finish", job, fence, outcome)[0] == "finished":
            assert int(fence) == self.fences[job]

    def something_happens_to_a_shard(self, number: int, where: str) -> None:
        happen = (self.node_is_lost, self.register, self.node_works_no_more_for_a_while, self.node_is_marked,
                  self.pools_change)  # fmt: skip
        happen[number % len(happen)](where)

    def time_passes(self, tag: str, ms: int) -> None:
        self.client.hincrby(prefix(tag), "clock", ms)
        deadlines: Any = self.client.zrange(f"{prefix(tag)}:nodes", 0, -1)
        lost: Any = self.client.zrange(f"{prefix(tag)}:lost", 0, -1)
        for node in set(deadlines) - set(lost):
            self.client.zincrby(f"{prefix(tag)}:nodes", ms, node)

    def reap(self, ms: int, where: str) -> None:
        self.time_passes(where, ms)
        self.fcall(where, "reap")

    def time_is_over(self, number: int, where: str) -> None:
        self.reap(JUMPS_MS[number % len(JUMPS_MS)], where)

    def pools_change(self, tag: str) -> None:
        self.number += 1
        if tag == TAGS[0]:
            self.fcall(tag, "pool_put", "all", f'{{"selector":{{"all":true}},"priority":{self.number % 1000}}}')
        else:
            self.fcall(tag, "pools_apply", "0", '{"pools":{"all":{"selector":{"all":true}}}}', self.number)

    # what must hold

    @invariant()
    def look(self) -> None:
        self.keys = read_all(self.client)
        for each in JOBS:
            self.job_is_in_one_place(each)
        for each in TAGS:
            self.books_agree(self.keys[each])

    def job_is_in_one_place(self, job: str) -> None:
        held = {each: self.keys[each][f"job:{job}"] for each in TAGS if f"job:{job}" in self.keys[each]}
        here = [each for each, found in held.items() if found["state"] != "moved"]
        # one that waits leaves its shard when it moves, and what it needs stays until it is there
        on_its_way = [each for each, found in held.items() if found["state"] == "moved" and "demand" in found]
        assert len(here) <= 1, (job, held)
        if job in self.acknowledged:
            assert here or on_its_way, (job, held)
        for each in here:
            found = held[each]
            if found["state"] in {"claimed", "running"}:
                fence = int(found["fence"])
                assert fence >= self.fences.get(job, 0)
                assert job not in self.ended
                if fence > self.fences.get(job, 0):
                    self.fences[job] = fence
                    self.delivered.append((each, job, found["fence"]))
            elif found["state"] == "pending":
                assert job not in self.ended
            else:
                self.ended.add(job)

    def books_agree(self, keys: dict[str, Any]) -> None:
        jobs = {name[4:]: found for name, found in keys.items() if name.startswith("job:")}
        queued = [member for name, members in keys.items() if name.startswith("queue:") for member in members]
        pending = {name for name, found in jobs.items() if found["state"] == "pending"}
        assert sorted(queued) == sorted(pending) == sorted(keys.get("pending", ()))
        assert bool(queued) == ("waiting" in keys)
        moved = {name for name, found in jobs.items() if found["state"] == "moved"}
        unsettled = {name for name in moved if "settled" not in jobs[name]}
        assert unsettled <= set(keys.get("moved", ()))
        leased = {name for name, found in jobs.items() if found["state"] in {"claimed", "running"}}
        held = {name[5:] for name, found in keys.items() if name.startswith("hold:") and self.holds(found)}
        assert set(keys.get("leases", ())) == leased | held
        for name, found in keys.items():
            if name.startswith("node:") and name.count(":") == 1:
                used = set(keys.get(f"{name}:leases", ()))
                lingering = set(keys.get(f"{name}:ending", ()))
                own = {
                    each
                    for each in leased
                    if jobs[each]["node"] == name[5:] and jobs[each]["incarnation"] == found["incarnation"]
                }
                assert own <= used
                assert used - own - lingering <= held
                assert len(used) <= int(found["slots"])
                able = (
                    found["state"] == "ready"
                    and "quarantined_until_ms" not in found
                    and len(used) < int(found["slots"])
                )
                assert (name[5:] in keys.get("free", ())) == able
                if found["state"] == "cordoned":
                    gained = {(each, jobs[each]["fence"]) for each in own} - self.marked.get(name, set())
                    assert not gained or name not in self.marked, gained
                if found["state"] == "cordoned":
                    self.marked.setdefault(name, {(each, jobs[each]["fence"]) for each in own})
                else:
                    self.marked.pop(name, None)

    @staticmethod
    def holds(found: Any) -> bool:
        return bool(found)

    # when all have stopped

    def teardown(self) -> None:
        if not self.keys:
            return
        self.actors.clear()
        for _ in range(6):
            for each in TAGS:
                self.reap(3_000, each)
                self.finished(ender_of(each))
                self.look()
        for each in TAGS:
            keys = self.keys[each]
            held = [name for name, found in keys.items() if name.startswith("hold:") and self.holds(found)]
            assert not held
            unsettled = [name for name, found in keys.items() if name.startswith("job:") and found["state"] == "moved"
                         and "settled" not in found]  # fmt: skip
            assert not unsettled
        for each in JOBS:
            known = any(f"job:{each}" in self.keys[where] and self.keys[where][f"job:{each}"]["state"] != "moved"
                        for where in TAGS)  # fmt: skip
            answer = self.finished(client_of(each, (home(each), *TAGS), f"last{each[-1]}", waits=True))
            # a retry finds the job that is there, and none other
            assert answer is not None, each
            assert answer[0] == "exists" if known else answer[0] in {"placed", "waiting"}, (each, answer)
            assert known or each not in self.acknowledged
        self.look()

    def finished(self, actor: Actor) -> Answer | None:
        """What becomes of it when nothing comes between its calls."""
        call = next(actor)
        for _ in range(CALLS_MAX):
            try:
                call = actor.send(execute(self.client, call))
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
        raise AssertionError("goes from shard to shard for ever")


@pytest.mark.timeout(400)  # a failure takes its time to be made small
def test_no_job_is_lost_or_doubled_whatever_comes_in_between(client: redis.Redis) -> None:
    run_state_machine_as_test(
        type("Here", (Moves,), {"client": client}),
        settings=settings(
            max_examples=int(os.environ.get("FLEET_MOVES_EXAMPLES", "40")),
            stateful_step_count=BURSTS_MAX,
            deadline=None,
            database=None,
            phases=[Phase.generate] if "FLEET_MOVES_EXAMPLES" in os.environ else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
