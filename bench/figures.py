"""The numbers of a run, and how two systems compare. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Figures(NamedTuple):
    """What one run of one workload on one system gave.

    Attributes:
        per_s: Requests that were answered a second.
        cpu_us: CPU microseconds of all the system's processes for each of them.
        p50_ms, p99_ms, p999_ms: Latency, in milliseconds.
        others: How much of the servers' core other work took meanwhile, 0 to 1.
        failure: Why the other figures mean nothing; None if they do mean something.
    """

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    others: float
    failure: str | None = None


class Spread(NamedTuple):
    """The middle of some values, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return that of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all do not exceed; 0 if there are none.

    Args:
        ordered: Values, the smallest first.
        share: Above 0, up to 1.
    """
    assert 0 < share <= 1
    if not ordered:
        return 0.0
    # Not ceil(): 0.99 * 100 is a little more than 99.
    return ordered[min(len(ordered) - 1, max(0, int(share * len(ordered) - 1e-9)))]


def valid(runs: Sequence[Figures]) -> list[Figures]:
    """Return those that mean something."""
    return [run for run in runs if run.failure is None]


def medians(runs: Sequence[Figures]) -> Figures | None:
    """Return the median of each number over the rounds that mean something; None if there are none."""
    good = valid(runs)
    if not good:
        return None
    columns = [statistics.median(column) for column in zip(*(run[:6] for run in good), strict=True)]
    return Figures(*columns)


def cpu_ratio(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Spread | None:
    """Compare CPU per request, round by round: what disturbs one of a round is likely to disturb both.

    Args:
        ours: One run for each round.
        theirs: The same rounds.

    Returns:
        Ours divided by theirs, over the rounds in which both mean something; None if there are none.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.failure is None and b.failure is None]
    return Spread.of([a.cpu_us / b.cpu_us for a, b in pairs]) if pairs else None


def by_system(rounds: Sequence[Mapping[str, Figures]]) -> dict[str, list[Figures]]:
    """Turn rounds, each of which has every system, into systems, each of which has every round."""
    return {name: [one[name] for one in rounds] for name in (rounds[0] if rounds else ())}
