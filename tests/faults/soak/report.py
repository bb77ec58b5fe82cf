"""What each kind of fault cost in a soak: pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

HEADINGS: Final = ("fault", "times", "no writes s", "no reads s", "copies back s")


class Cost(NamedTuple):
    """What one fault cost, until all copies were back."""

    kind: str
    writes_s: float
    reads_s: float
    copies_back_s: float


def worst_by_kind(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """Return a row for each kind under ``HEADINGS``, with the worst of each number; the worst kind comes first."""
    rows = []
    for kind in {cost.kind for cost in costs}:
        same = [cost for cost in costs if cost.kind == kind]
        worst = [max(numbers) for numbers in zip(*(cost[1:] for cost in same), strict=True)]
        rows.append((max(worst[:2]), kind, (str(len(same)), *(f"{number:.1f}" for number in worst))))
    return [(kind, *numbers) for _, kind, numbers in sorted(rows, key=lambda row: (-row[0], row[1]))]
