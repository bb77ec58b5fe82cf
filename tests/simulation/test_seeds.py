"""Thousands of seeds, others at each commit: no promise is broken, and everything that can happen did happen."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.cluster import run_seed
from tests.simulation.runner import report, run_seeds

SEEDS = int(os.environ.get("TALLY_SIM_SEEDS", "5000"))
MUST_HAPPEN = (
    "promotions",
    "switches",
    "clones",
    "catch-ups",
    "DIVERGED",
    "NO_COPY",
    "STALE",
    "duplicates",
    "known keys",
    "controller changes",
    "guarded transactions refused",
    "new terms",
    "wiped disks",
    "disks set back",
    "faults: slow disk",
    "doubted requests",
    "renounced copies",
)


def first_seed() -> int:
    """Return where to begin: the first 32 bits of the commit's hash, or 0 without git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(done.stdout[:8], 16)


@pytest.mark.timeout(3600)
def test_no_seed_breaks_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    totals = Counter[str]()
    first = first_seed()
    for part, finding in run_seeds(first, SEEDS, processes=2):
        totals.update(part)
        assert finding is None, str(finding)
    with capsys.disabled():
        sys.stdout.write("\n".join([f"\nseeds {first} to {first + SEEDS - 1}", *report(totals), ""]))
    assert totals["seeds"] == SEEDS
    assert totals["acknowledged events"] >= 200 * SEEDS
    assert totals["faults"] >= 5 * SEEDS
    if SEEDS >= 1000:
        assert not [name for name in MUST_HAPPEN if totals[name] == 0]


def test_equal_seeds_give_equal_runs() -> None:
    """Or a failing seed could not be looked into."""
    assert run_seed(7) == run_seed(7)


def test_without_faults_every_slot_keeps_its_primary() -> None:
    totals = run_seed(3, faults=False)
    assert totals["acknowledged events"] >= 200
    assert totals["promotions"] == totals["switches"] == 0
