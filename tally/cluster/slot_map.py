"""The map: for each slot its epoch, its primary and its in-sync set. One key in etcd, one value here.

Invariants (PROTOCOL rule 1):
  * the primary is in the in-sync set, which is never empty;
  * every change of a row raises its epoch: by one, and by many if ``tally recover`` can't know the newest row for sure.

Pure: JSON text in, values out, and back.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from tally.cluster.config import parse_object
from tally.cluster.map_text import rows_of, text_of
from tally.errors import BadClusterData


@dataclass(frozen=True, slots=True)
class SlotRow:
    """Who keeps one slot.

    Attributes:
        epoch: Version of this row, from 1.
        primary: The shard that takes the writes.
        in_sync: Shard -> incarnation of its copy: the copies that every acknowledged write is on.
        min_copies: With fewer copies in sync the slot takes no writes. Grows with the set up to the cluster's
            ``min_copies``, and stays when the set shrinks: so a set that still grows serves.
        gave_up: The epoch that the slot's last give-up made; 0 if there was none. What is older was given up with it.
    """

    epoch: int
    primary: str
    in_sync: Mapping[str, str]
    min_copies: int = 1
    gave_up: int = 0

    def __post_init__(self) -> None:
        assert self.epoch >= 1
        assert self.primary in self.in_sync
        assert self.min_copies >= 1


@dataclass(frozen=True, slots=True)
class SlotMap:
    """All rows, by slot, and beside them who is to join.

    Attributes:
        rows: One a slot.
        joining: Slot -> shards that are to get a copy. Outside the rows, because a wish must not end a term.
    """

    rows: tuple[SlotRow, ...]
    joining: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text that stands in etcd: one line a slot, so that a person can read it too.

        Raises:
            MapTooLarge: It would be more than etcd takes.
        """
        return text_of(
            [
                {
                    "slot": slot,
                    "epoch": row.epoch,
                    "primary": row.primary,
                    "in_sync": dict(row.in_sync),
                    "min_copies": row.min_copies,
                    **({"gave_up": row.gave_up} if row.gave_up else {}),
                    "joining": list(self.joining.get(slot, ())),
                }
                for slot, row in enumerate(self.rows)
            ]
        )

    @classmethod
    def from_json(cls, text: bytes | str, key: str, slots: int) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            BadClusterData: It is not that, or has another number of slots; the error names ``key``.
        """
        value = parse_object(text, key)
        try:
            found = rows_of(value, key)
            numbers = [row["slot"] for row in found]
            rows = tuple(
                SlotRow(
                    int(row["epoch"]),
                    str(row["primary"]),
                    {str(shard): str(incarnation) for shard, incarnation in row["in_sync"].items()},
                    int(row.get("min_copies", 1)),
                    int(row.get("gave_up", 0)),
                )
                for row in found
            )
            joining = {
                int(row["slot"]): tuple(str(shard) for shard in row["joining"]) for row in found if row.get("joining")
            }
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as exc:
            raise BadClusterData(key, f"{type(exc).__name__}: {exc}") from exc
        if numbers != list(range(slots)):
            raise BadClusterData(key, f"the slots are not 0 to {slots - 1} in order")
        return cls(rows, joining)

    def goes_back_from(self, other: "SlotMap") -> tuple[int, ...]:
        """Return the slots whose rows can't have come after those of ``other``.

        Such a row is older, or another one of the same epoch: then both came from the same older map, which is what a
        restored etcd had.
        """
        pairs = enumerate(zip(self.rows, other.rows, strict=True))
        return tuple(
            slot for slot, (mine, its) in pairs if mine.epoch < its.epoch or (mine.epoch == its.epoch and mine != its)
        )

    def shards(self) -> list[str]:
        """Return who has a copy in sync of some slot, sorted."""
        return sorted({shard for row in self.rows for shard in row.in_sync})

    def slots_per_primary(self) -> Counter[str]:
        """Return how many slots each shard is primary of."""
        return Counter(row.primary for row in self.rows)
