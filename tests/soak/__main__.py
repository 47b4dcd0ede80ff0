"""A fleet under fire, run by `make soak`; exits with status 1 on a violation.

Several processes claim and finish; replicas, agents and Redis itself are killed and stopped at random times, and a
relay eats one reply in twenty. At the end, what was acknowledged is held against what Redis knows.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import redis

from scheduler.dev.server import EmbeddedServer, choose_server
from scheduler.store.library import read_library
from tests.soak.audit import Auditor
from tests.soak.chaos import Cast, Chaos
from tests.soak.ledger import read_books, told
from tests.soak.stage import CLAIMERS, P, populate
from tests.soak.verdict import compare, free_differs, wait_settled

# a job that lost its node waits a minute for each attempt that it has left
SETTLE_S, DONE_S = 300.0, 60.0
LEAKED = "slots, inbox entries or queues leaked"


def _counts(ledgers: list[Path]) -> Counter[str]:
    return sum((told(ledger)[1] for ledger in ledgers), Counter[str]())


def _under_fire(chaos: Chaos, ledgers: list[Path], minutes: float) -> None:
    """Until every claimer has used its budget, or the time is up."""
    started, shown = time.monotonic(), 0.0
    while (passed_s := time.monotonic() - started) < minutes * 60:
        chaos.turn()
        if all(told(ledger)[0] for ledger in ledgers if "claimer" in ledger.name):
            break
        if passed_s - shown >= 10:
            shown, seen = passed_s, _counts(ledgers)
            print(f"  {passed_s:4.0f} s  {seen['claims']:>9,} claims  {dict(sorted(chaos.done.items()))}", flush=True)
        time.sleep(0.05)
    chaos.mend()


def _end(cast: Cast, ledgers: list[Path]) -> list[str]:
    """Let the claimers end what they have begun; answers those that do not."""
    for name in ("web", *(f"claimer{i}" for i in range(CLAIMERS))):
        if cast.running[name].poll() is None:
            cast.running[name].terminate()
    end = time.monotonic() + DONE_S
    while (left := [ledger.stem for ledger in ledgers if not told(ledger)[0]]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def promises(bad: Counter[str], counts: Counter[str]) -> str:
    """The rules that all this is about, in figures."""
    lost = sum(n for rule, n in bad.items() if rule.startswith("acknowledged"))
    doubled = bad["result doubled"] + bad["result of another attempt"]
    ids = counts["distinct ids acknowledged"] + counts["jobs whose reply nobody saw"]
    return (
        f"oversubscribed {bad['oversubscribed']}, acknowledged lost {lost}, results doubled {doubled}, "
        f"jobs {counts['jobs']:,} = distinct ids {ids:,}, leaked {bad[LEAKED]}"
    )


def soak(options: argparse.Namespace, folder: Path) -> int:
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    print(f"server: {choice.describe()}; seed {options.seed}", flush=True)
    data = folder / "redis"
    data.mkdir()
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with EmbeddedServer(choice, args=durable, folder=data) as server:
        client, cast = redis.Redis(port=server.port), Cast(folder)
        client.execute_command("FUNCTION", "LOAD", read_library().code)
        auditor, started = Auditor(server.url, P), time.monotonic()
        try:
            ledgers = populate(cast, client, server.url, options.claims)
            auditor.start()
            chaos = Chaos(cast, server, options.seed)
            _under_fire(chaos, ledgers, options.minutes)
            fired_s = time.monotonic() - started
            bad = Counter({f"{name} does not end": 1 for name in _end(cast, ledgers)})
            left, at_rest = wait_settled(client, P, SETTLE_S), len(client.smembers(f"{P}:free"))
            bad[LEAKED] += len(left)
            bad["P:free is wrong"] += len(free_differs(client, P))
            bad.update({f"{name} died by itself": 1 for name in set(cast.gone()) - {"web"}})
            auditor.over.set()
            auditor.join()
        finally:
            cast.stop()
        memory = int(client.info("memory")["used_memory"])
        seen = _counts(ledgers)
        counts, wrong, examples = compare(client, P, read_books(folder))
        bad.update(wrong)
        counts["free nodes at rest"] = at_rest
        for held in (seen, auditor.seen):
            bad.update({name.removeprefix("bad: "): n for name, n in held.items() if name.startswith("bad:")})
        bad = +bad
        print(f"  under fire {fired_s:.0f} s: {dict(sorted(chaos.done.items()))}")
        print(f"  claimed: { {name: n for name, n in sorted(seen.items()) if name[:4] != 'bad:'} }")
        print(f"  audited: { {name: n for name, n in sorted(auditor.seen.items()) if name[:4] != 'bad:'} }")
        print(f"  in Redis: {dict(sorted(counts.items()))}, {memory / 2**20:.0f} MiB")
        print(f"  violations by kind: {dict(bad) or 'none'}")
        print("".join(f"    {line}\n" for line in [*examples, *auditor.examples, *left[:5]]), end="")
    print(f"  {promises(bad, counts)}")
    print(f"claims: {seen['claims'] + seen['http claims']:,}  violations: {sum(bad.values())}", flush=True)
    return int(bool(bad))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=1_000_000, help="end when so many are decided")
    parser.add_argument("--minutes", type=float, default=30, help="end after this time at the latest")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="of what befalls whom")
    parser.add_argument("--keep", type=Path, help="leave ledgers, logs and data in this new folder")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True)
        return soak(options, options.keep.absolute())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return soak(options, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
