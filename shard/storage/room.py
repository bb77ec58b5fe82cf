"""How full a shard's disk is, what the shard takes no more for that, and a line in the log when it changes. No I/O."""

from pathlib import Path
from typing import Any, Final

import structlog

COPIES_UP_TO: Final = 0.85  # Of the disk used: beyond it the shard takes no new copies,
EVENTS_UP_TO: Final = 0.95  # and beyond this no events.
_ADVICE: Final = "give the disk more room; what moves to other shards is not freed here (README, Damage)"

log = structlog.get_logger()


class Room:
    """What there is room for.

    Attributes:
        used: How much of the disk is used, 0 to 1; None before the first look.
        takes_copies: Whether there is room for new copies.
        takes_events: Whether there is room for events.
    """

    def __init__(self, path: Path) -> None:
        """Prepare; ``path`` names the disk in the log."""
        self._path = str(path)
        self.used: float | None = None
        self.takes_copies = True
        self.takes_events = True

    def see(self, used: int, free: int) -> None:
        """Go by these bytes, as df shows them: what is reserved for root is neither used nor free."""
        had = self.takes_copies, self.takes_events
        self.used = share = used / (used + free)
        self.takes_copies, self.takes_events = share < COPIES_UP_TO, share < EVENTS_UP_TO
        self._tell(*had, path=self._path, used_percent=round(100 * share))

    def _tell(self, took_copies: bool, took_events: bool, **facts: Any) -> None:
        """Log what is different now."""
        if took_copies and not self.takes_copies:
            log.warning("disk_nearly_full", refused="new copies", **facts, advice=_ADVICE)
        if took_events and not self.takes_events:
            log.error("disk_full", refused="events", **facts, advice=_ADVICE)
        if self.takes_events and not took_events:
            log.info("disk_has_room", taken="events", **facts)
        if self.takes_copies and not took_copies:
            log.info("disk_has_room", taken="new copies", **facts)
