"""Row k of `fleet bench` alone: three times as many requests as a replica can place, for as long as asked.

Records, asserts nothing: `python -m tests.bench.overload [--seconds 60]`.
"""

import argparse
import os
import sys

from scheduler.bench.overload import SECONDS, run
from scheduler.bench.stage import Plan
from scheduler.dev.server import choose_server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    print(f"server: {choice.describe()}")
    for figure in run(Plan(choice), options.seconds):
        print(f"{figure.what}: {figure.value:.3f} {figure.unit}")
        for name, value in figure.detail.items():
            print(f"    {name:24} {value:12,.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
