"""How safe the slots are of which this shard is primary, in numbers that a monitor can follow. Pure.

A slot is on a single copy while its row names one copy in sync although more are wanted. What counts is the map as this
shard knows it: one that is cut off from etcd goes on counting by its last map, and one that has ended counts nothing.

No clock: whoever tells of something says when.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tally.cluster.slot_map import SlotRow


class RedundancyFigures(NamedTuple):
    """What is known at one time.

    Attributes:
        slots_primary: Of how many slots this shard is primary.
        single_copy_s: For how long these were on a single copy, in slot-seconds: two slots for a second are 2.
        copies_missing: How many copies they have less than wanted, over all.
        clones, catch_ups: How many copies came to this shard whole, and how many by the ops that they had missed.
        terms_refused: How many terms ended because another copy knew a higher epoch, before the map said so.
    """

    slots_primary: int = 0
    single_copy_s: float = 0.0
    copies_missing: int = 0
    clones: int = 0
    catch_ups: int = 0
    terms_refused: int = 0


class Redundancy:
    """Adds up what this shard is told; the sums begin with the process."""

    def __init__(self, shard: str) -> None:
        """Begin; ``shard`` is this one's id."""
        self._shard = shard
        self._slots_primary = 0
        self._single = 0  # Slots that are on a single copy since ``_since``.
        self._single_copy_s = 0.0
        self._since = 0.0
        self._copies_missing = 0
        self._clones = 0
        self._catch_ups = 0
        self._terms_refused = 0

    def see(self, rows: Sequence[SlotRow], wanted: int, now: float) -> None:
        """Go by this map from now on.

        Args:
            rows: Of all slots.
            wanted: How many copies each slot is to have among the members that are there.
            now: In seconds; never less than before.
        """
        self._single_copy_s = self._single_copy_s_at(now)
        self._since = now
        own = [len(row.in_sync) for row in rows if row.primary == self._shard]
        self._slots_primary = len(own)
        self._single = sum(in_sync == 1 < wanted for in_sync in own)
        self._copies_missing = sum(max(0, wanted - in_sync) for in_sync in own)

    def copy_came(self, *, whole: bool) -> None:
        """Note that a copy came to this shard, by a clone or by catching up."""
        if whole:
            self._clones += 1
        else:
            self._catch_ups += 1

    def term_ended(self, *, of: SlotRow, known: SlotRow | None) -> None:
        """Note that a primary's term ended.

        Args:
            of: The row in which it had begun.
            known: The row that this shard knows now. The same one: it was not the map that ended the term.
        """
        if known is not None and known.epoch == of.epoch:
            self._terms_refused += 1

    def figures(self, now: float) -> RedundancyFigures:
        """Return what is known at ``now``."""
        return RedundancyFigures(
            slots_primary=self._slots_primary,
            single_copy_s=self._single_copy_s_at(now),
            copies_missing=self._copies_missing,
            clones=self._clones,
            catch_ups=self._catch_ups,
            terms_refused=self._terms_refused,
        )

    def _single_copy_s_at(self, now: float) -> float:
        return self._single_copy_s + self._single * (now - self._since)
