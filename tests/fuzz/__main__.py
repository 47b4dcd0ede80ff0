"""Hostile input by the hundred thousand, to a live replica and to the functions; ends with 1 on a violation."""

import argparse
import os
import random
import sys
from contextlib import closing
from pathlib import Path

import redis

from scheduler.dev.server import EmbeddedServer, choose_server
from scheduler.store.library import read_library
from tests.fuzz import environments, running
from tests.fuzz.bodies import Bodies, requests
from tests.fuzz.conformance import conform
from tests.fuzz.environments import Environments
from tests.fuzz.functions import Functions, calls
from tests.fuzz.stage import Stage, staged

# Out of a hundred cases; what schemathesis does comes on top.
SHARES = {"functions": 45, "bodies": 45, "settings": 10}
WARM_UP = 500
GROWTH_MAX_MIB = 16.0


def functions(count: int, seed: int) -> running.Seen:
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    with EmbeddedServer(choice, args=("--enable-debug-command", "local")) as server:
        client = redis.Redis(port=server.port, socket_timeout=30)
        judge = Functions(client, read_library().code).judge
        seen = running.run("functions", calls(), judge, count, seed)
        client.close()
    return seen


def settings(count: int, seed: int) -> running.Seen:
    with environments.folder() as folder:
        return running.run("settings", environments.CASES, Environments(Path(folder)).judge, count, seed)


def bodies(stage: Stage, count: int, seed: int) -> running.Seen:
    """Over HTTP; the replica must not grow meanwhile, and must answer afterwards."""
    with closing(Bodies(stage)) as judge:
        warm = running.run("bodies", requests(), judge.judge, min(WARM_UP, count // 4), seed)
        before = stage.rss_mib()
        seen = running.run("bodies", requests(), judge.judge, count - warm.cases, seed + 1_000_000)
        after = stage.rss_mib()
    seen.outcomes.update(warm.outcomes)
    seen.violations += warm.violations
    print(f"bodies: the replica had {before:.1f} MiB after {warm.cases:,} cases, {after:.1f} MiB at the end")
    if after - before > GROWTH_MAX_MIB:
        seen.violations.append(f"the replica grew by {after - before:.1f} MiB, more than {GROWTH_MAX_MIB:.0f}")
    if not stage.answers():
        seen.violations.append("the replica does not answer any more")
    return seen


def hostile(options: argparse.Namespace) -> list[running.Seen]:
    """Each kind that is asked for, with its share of the cases."""
    seen = []
    for kind, share in SHARES.items():
        if options.only not in {None, kind}:
            continue
        count = options.cases if options.only else options.cases * share // 100
        if kind == "bodies":
            with staged() as stage:
                seen.append(bodies(stage, count, options.seed))
        else:
            seen.append({"functions": functions, "settings": settings}[kind](count, options.seed))
        print(seen[-1].told())
        print("".join(f"  {line}\n" for line in seen[-1].violations), end="", flush=True)
    return seen


def conforming(examples: int, seed: int) -> int:
    """Violations of the API's document."""
    with staged(keyed=True) as stage:
        run = conform(stage, examples, seed)
        answers = stage.answers()
    print(f"schemathesis: {run.cases:,} cases, status {run.status}" + (f"\n{run.said}" if run.status else ""))
    return int(run.status != 0) + int(not answers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="in all, without those of schemathesis")
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis for each route; 0 for none of it")
    parser.add_argument("--only", choices=list(SHARES), help="all cases of one kind")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    told = hostile(options)
    violations = sum(len(seen.violations) for seen in told)
    if options.examples:
        violations += conforming(options.examples, options.seed)
    print(f"cases: {sum(seen.cases for seen in told):,}  violations: {violations}", flush=True)
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
