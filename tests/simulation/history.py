"""What was committed: one line of ops for each slot, from which nothing may ever be lost."""

from shard.replica.words import Op
from tally.cluster.op_name import NOTHING, OpName
from tests.simulation.world import Broken


class History:
    """The ops of all slots, as their primaries built and committed them."""

    def __init__(self, slots: int) -> None:
        self._previous: list[dict[OpName, OpName]] = [{} for _ in range(slots)]
        self._last: list[OpName] = [NOTHING] * slots
        self._committer: dict[tuple[int, int], str] = {}
        self._op_of: dict[tuple[int, bytes, int], OpName] = {}  # (slot, writer, number) -> which op counted it.

    def built(self, slot: int, op: Op) -> None:
        """Note an op before anything is done with it."""
        self._previous[slot][op.name] = op.previous

    def committed(self, slot: int, op: Op, shard: str) -> None:
        """Check that an op follows all that was committed before, and that its epoch has one primary."""
        first = self._committer.setdefault((slot, op.name.epoch), shard)
        if first != shard:
            raise Broken(f"slot {slot}: {first} and {shard} both commit in epoch {op.name.epoch}")
        last = self._last[slot]
        # A primary that was away may learn late that its op was acknowledged; it must still be in the line.
        older, newer = (op.name, last) if op.name.opnum <= last.opnum else (last, op.name)
        if not self._follows(slot, newer, older):
            raise Broken(f"slot {slot}: {shard} commits {op.name}, which is not in one line with the committed {last}")
        self._last[slot] = newer
        for writer, row in op.body.writers:
            counted_by = self._op_of.setdefault((slot, writer, row.seq), op.name)
            if counted_by != op.name:
                raise Broken(f"rule 13: slot {slot}: {counted_by} and {op.name} count {row.seq} of {writer!r}")

    def holds_all(self, slot: int, head: OpName) -> bool:
        """Tell whether a copy with this head has everything that was committed."""
        return self._follows(slot, head, self._last[slot])

    def _follows(self, slot: int, newer: OpName, older: OpName) -> bool:
        previous = self._previous[slot]
        while newer.opnum > older.opnum:
            newer = previous[newer]
        return newer == older
