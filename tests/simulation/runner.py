"""Many seeds, over several processes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final, NamedTuple

from tests.simulation.cluster import run_seed
from tests.simulation.world import Broken

CHUNK: Final = 25


class Finding(NamedTuple):
    """A seed that broke a promise."""

    seed: int
    what: str

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.what}\nAgain, step by step: python -m tests.simulation --seed {self.seed}"


def run_chunk(seeds: range) -> tuple[Counter[str], Finding | None]:
    """Run some seeds up to the first finding; an assertion of the core counts as one."""
    totals: Counter[str] = Counter()
    for seed in seeds:
        try:
            totals.update(run_seed(seed))
        except (Broken, AssertionError, LookupError, AttributeError, TypeError) as exc:
            return totals, Finding(seed, f"{type(exc).__name__}: {exc}")
    return totals, None


def run_seeds(first: int, seeds: int, processes: int) -> Iterator[tuple[Counter[str], Finding | None]]:
    """Run many seeds; give the totals of each part as it is done."""
    chunks = [range(start, min(start + CHUNK, first + seeds)) for start in range(first, first + seeds, CHUNK)]
    if processes == 1:
        yield from map(run_chunk, chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(run_chunk, chunks)
        finally:
            pool.shutdown(cancel_futures=True)


def report(totals: Counter[str]) -> Iterable[str]:
    """Return the lines of a table: what happened, how often, and on average in a seed."""
    seeds = totals["seeds"] or 1
    return [f"{name:35} {number:12,} {number / seeds:10.2f}" for name, number in sorted(totals.items())]
