"""The map: for each slot its epoch, its primary and its in-sync set. One key in etcd, one value here.

Invariants (PROTOCOL rule 1):
  * the primary is in the in-sync set, which is never empty;
  * every change of a row raises its epoch by one.

Pure: JSON text in, values out, and back.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from tally.cluster.config import parse_object
from tally.errors import BadClusterData

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class SlotRow:
    """Who keeps one slot.

    Attributes:
        epoch: Version of this row, from 1.
        primary: The shard that takes the writes.
        in_sync: Shard -> incarnation of its copy: the copies that every acknowledged write is on.
    """

    epoch: int
    primary: str
    in_sync: Mapping[str, str]

    def __post_init__(self) -> None:
        assert self.epoch >= 1
        assert self.primary in self.in_sync


@dataclass(frozen=True, slots=True)
class SlotMap:
    """All rows, by slot."""

    rows: tuple[SlotRow, ...]

    def to_json(self) -> str:
        """Return the text that stands in etcd: one line a slot, so that a person can read it too."""
        lines = ",\n".join(
            json.dumps({"slot": slot, "epoch": row.epoch, "primary": row.primary, "in_sync": dict(row.in_sync)})
            for slot, row in enumerate(self.rows)
        )
        return f'{{"format": {FORMAT}, "slots": [\n{lines}\n]}}'

    @classmethod
    def from_json(cls, text: bytes | str, key: str, slots: int) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            BadClusterData: It is not that, or has another number of slots; the error names ``key``.
        """
        value = parse_object(text, key)
        if value.get("format") != FORMAT:
            raise BadClusterData(key, f"format {value.get('format')!r}; this version knows format {FORMAT}")
        try:
            numbers = [row["slot"] for row in value["slots"]]
            rows = tuple(
                SlotRow(
                    int(row["epoch"]),
                    str(row["primary"]),
                    {str(shard): str(incarnation) for shard, incarnation in row["in_sync"].items()},
                )
                for row in value["slots"]
            )
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as exc:
            raise BadClusterData(key, f"{type(exc).__name__}: {exc}") from exc
        if numbers != list(range(slots)):
            raise BadClusterData(key, f"the slots are not 0 to {slots - 1} in order")
        return cls(rows)

    def slots_per_primary(self) -> Counter[str]:
        """Return how many slots each shard is primary of."""
        return Counter(row.primary for row in self.rows)
