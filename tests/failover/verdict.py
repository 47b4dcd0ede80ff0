"""What is true after a failover: requests, acknowledged jobs, and jobs that are there twice."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.cluster import RedisCluster

from tests.failover.load import Sent

ENDED = {"succeeded", "failed", "cancelled", "expired"}


@dataclass(frozen=True)
class Verdict:
    """Counts of one run. `again` are jobs that ran again as the fault explains: an attempt more, or forgotten."""

    requests: int
    failed: int
    sent_again: int
    lost: int
    unended: int
    doubled: int
    again: int
    slowest_s: float
    recovery_s: float

    def violations(self, *, may_lose: bool) -> int:
        """What must be 0. A failover without WAIT may lose what was acknowledged, and runs it again."""
        always = self.failed + self.doubled + self.unended
        return always if may_lose else always + self.lost + self.again

    def lines(self) -> list[str]:
        return [
            f"requests {self.requests}, failed after retries with the same id {self.failed}",
            f"sent again {self.sent_again}, slowest {self.slowest_s:.2f} s, recovery {self.recovery_s:.2f} s",
            f"acknowledged jobs lost {self.lost}, not ended {self.unended}",
            f"jobs in two shards {self.doubled}, run again under a new fence {self.again}",
        ]


def records(client: "redis.Redis | RedisCluster", tags: Sequence[str], sent: Sequence[Sent]) -> dict[str, list[str]]:
    """The states of each job in all shards but where it only moved on."""
    found: dict[str, list[str]] = defaultdict(list)
    for tag in tags:
        pipe = client.pipeline(transaction=False)
        for request in sent:
            pipe.hget(f"fleet:{{{tag}}}:job:default:{request.id}", "state")
        for request, state in zip(sent, pipe.execute(), strict=True):
            if state is not None and state != b"moved":
                found[request.id].append(state.decode())
    return found


def judged(found: dict[str, list[str]], sent: Sequence[Sent], begun: Path, fault_at: float) -> Verdict:
    acknowledged = [request for request in sent if request.answered is not None]
    fences: dict[str, set[str]] = defaultdict(set)
    for line in begun.read_text("utf-8").splitlines():
        job, fence = line.split()
        fences[job.removeprefix("default:")].add(fence)
    waits = [request.answered - request.begun for request in acknowledged if request.answered]
    # the requests around the fault, from the first that it held up to the last
    held = [request.answered for request in acknowledged if request.answered and request.tries > 1]
    runs = Counter(len(seen) for seen in fences.values())
    return Verdict(
        requests=len(sent),
        failed=len(sent) - len(acknowledged),
        sent_again=sum(request.tries > 1 for request in sent),
        lost=sum(request.id not in found for request in acknowledged),
        unended=sum(any(state not in ENDED for state in found.get(request.id, ())) for request in acknowledged),
        doubled=sum(len(states) > 1 for states in found.values()),
        again=sum(count for times, count in runs.items() if times > 1),
        slowest_s=max(waits, default=0.0),
        recovery_s=max((at - fault_at for at in held), default=0.0),
    )
