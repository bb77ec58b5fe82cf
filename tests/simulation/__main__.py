"""Run seeds: ``python -m tests.simulation --seeds 1000 --processes 2``; tell one: ``--seed 17``."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.cluster import run_seed
from tests.simulation.runner import report, run_seeds


def say(line: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="run this one only, and tell every step")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.seed is not None:
        say("\n".join(report(run_seed(options.seed, say))))
        return 0
    totals, begun, shown = Counter[str](), time.monotonic(), 0.0
    for part, finding in run_seeds(options.first, options.seeds, options.processes):
        totals.update(part)
        took = time.monotonic() - begun
        if finding is not None:
            say(str(finding))
            return 1
        if took - shown > 10:
            shown = took
            say(f"{totals['seeds']:,} seeds in {took:.0f} s")
    say("\n".join(report(totals)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
