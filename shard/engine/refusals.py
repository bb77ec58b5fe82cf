"""Which slots that this shard serves refuse somebody, and why: what an operator is told. Pure.

Who is refused tells nobody but its own client. So each refusal is noted here, and counts for a while: a slot that
refuses one writer or one reader out of many would look well otherwise.

No clock: whoever tells of something says when.
"""

from enum import StrEnum
from typing import Final

RECENT_S: Final = 10.0
"""For so long a refusal counts: whoever is refused for good comes again within that time."""


class Reason(StrEnum):
    """Why something is refused; the names stay, monitors go by them."""

    FEW_COPIES = "few_copies"  # Fewer than ``min_copies`` are in sync.
    DISK_FULL = "disk_full"
    QUEUE_FULL = "queue_full"  # Of the shard, over all slots.
    OP_NOT_COMMITTED = "op_not_committed"  # A copy that is required does not acknowledge, and is not taken out.
    READ_NOT_CONFIRMED = "read_not_confirmed"  # The same for readers.
    NO_ROOM_FOR_WRITERS = "no_room_for_writers"
    WRITER_FORGOTTEN = "writer_forgotten"
    OUT_OF_ORDER = "out_of_order"
    CONTENT_DIFFERS = "content_differs"
    MALFORMED = "malformed"


class Refusals:
    """The last refusal of each slot."""

    def __init__(self) -> None:
        """Know of none."""
        self._last: dict[int, tuple[Reason, float]] = {}

    def note(self, slot: int, reason: Reason, now: float) -> None:
        """Note that something was refused in a slot."""
        self._last[slot] = reason, now

    def recent(self, now: float) -> dict[int, Reason]:
        """Return the slots in which something was refused lately, each with the last reason."""
        return {slot: reason for slot, (reason, when) in self._last.items() if now - when <= RECENT_S}
