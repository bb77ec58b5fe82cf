"""Disks that came back older than they were: of which copies, and who can still tell what they lost.

The rules promise that nothing is lost as long as another member of the set answers that has everything. So while a
copy is older than it was and nobody has found out, nothing happens to the last such member.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class SetBacks:
    """Copies that are older than they were, and in sync or joining.

    Attributes:
        copies: Slot, shard and incarnation -> the opnum that it had.
        removals: Slot, epoch and shard of all removals that anybody asked for: they may be under way.
    """

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.copies: dict[tuple[int, str, str], int] = {}
        self.removals: set[tuple[int, int, str]] = set()
        self._unnamed: dict[tuple[int, str, str], int] = {}  # Copies that no row named any more, or yet.

    def _has_all(self, slot: int, shard: str, incarnation: str) -> bool:
        """Tell whether a shard has the copy of that name, with all that was committed."""
        stored = self._cluster.machines[shard].disk.copies[slot].stored
        return (
            stored.complete
            and stored.incarnation == incarnation
            and self._cluster.history.holds_all(slot, stored.head.name)
        )

    def safe_without(self, shard: str, *, settled: Callable[[int], bool]) -> bool:
        """Tell whether another copy can tell what was lost, of each slot of which one came from an older disk.

        It is a member that answers, has everything, and whose removal was not asked for; ``settled`` tells of which
        slots nothing is to be feared. That is what the rules need: if nobody is there who knows more, what is left of
        the copy passes for all of it.
        """
        return all(
            settled(slot) or any(other != shard and self._can_tell(slot, other) for other in row.in_sync)
            for slot, row in enumerate(self._cluster.etcd.map.rows)
        )

    def _can_tell(self, slot: int, shard: str) -> bool:
        row, machine = self._cluster.etcd.map.rows[slot], self._cluster.machines[shard]
        process = machine.process
        return (
            process is not None
            and process.has_map
            and not process.paused
            and self._cluster.network.reaches(shard)
            and self._cluster.etcd.is_alive(shard)
            and (slot, row.epoch, shard) not in self.removals
            and (slot, shard, row.in_sync[shard]) not in self.copies
            and self._has_all(slot, shard, row.in_sync[shard])
        )

    def covers(self, slot: int, shard: str, incarnation: str) -> bool:
        """Tell whether a copy that a row names is older than it was; its addition may have been under way meanwhile."""
        copy = slot, shard, incarnation
        if copy in self._unnamed:
            self.copies[copy] = self._unnamed.pop(copy)
        return copy in self.copies

    def open_slots(self) -> set[int]:
        """Forget copies that have everything again, or are in no row and no wish; return the slots of the others."""
        for (slot, shard, incarnation), opnum in list(self.copies.items()):
            row, wished = self._cluster.etcd.map.rows[slot], self._cluster.etcd.map.joining.get(slot, ())
            named = row.in_sync.get(shard) == incarnation or (shard not in row.in_sync and shard in wished)
            has_all = self._has_all(slot, shard, incarnation)
            if not named:
                self._unnamed[slot, shard, incarnation] = self.copies.pop((slot, shard, incarnation))
            elif has_all and self._cluster.machines[shard].disk.copies[slot].stored.head.name.opnum >= opnum:
                del self.copies[slot, shard, incarnation]
        self._cluster.network.calm = bool(self.copies)
        return {slot for slot, _, _ in self.copies}

    def expendable(self, shard: str) -> bool:
        """Tell whether a shard may fail now."""
        slots = self.open_slots()
        return self.safe_without(shard, settled=lambda slot: slot not in slots)
