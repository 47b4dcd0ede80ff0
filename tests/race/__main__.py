"""Races of real processes, run by `make race`; exits with status 1 on a violation.

Real replicas over HTTP, real client processes, one server for each race. The library that is loaded carries a judge
that checks each decision in its own step, and an auditor reads all nodes in one atomic step, again and again.
"""

import argparse
import sys

from tests.race import changing_pools, last_slots, pools, quotas
from tests.race.stage import run, staged

SCENES = {
    "last_slots": last_slots.SCENE,
    "pools": pools.SCENE,
    "changing_pools": changing_pools.SCENE,
    "quotas": quotas.SCENE,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=100_000, help="in each race")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only", choices=list(SCENES), help="one race instead of all")
    options = parser.parse_args()
    violations = 0
    for name, scene in SCENES.items():
        if options.only in {None, name}:
            with staged(options.replicas) as (urls, server):
                violations += run(scene, options, urls, server)
    print(f"violations: {violations}")
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
