"""Accused sub-batches go to a shard one after the other: who is there when it dies is to blame, not all who were near.

A shard counts the sub-batches of many slots in one pass, so one event takes all of them along; sent again together,
they would die together again. Who has a strike, or is a suspect, is accused. What nobody accuses waits for nobody.

No clock, no I/O: time is an argument.
"""

from typing import Final

# An event that ends a process does so at once; who is not answered for so long waits for something else.
ALONE_S: Final = 0.25


class Quarantine:
    """Which slot's accused sub-batch is at which shard, and which slots' wait for that."""

    def __init__(self) -> None:
        self._at: dict[str, tuple[int, float]] = {}
        self._waiting: dict[str, dict[int, None]] = {}

    def enter(self, slot: int, shard: str, now: float) -> bool:
        """Let the accused sub-batch of a slot go to a shard; False: it has to wait for another."""
        there = self._at.get(shard)
        if there is not None and there[0] != slot and now - there[1] < ALONE_S:
            self._waiting.setdefault(shard, {})[slot] = None
            return False
        self._at[shard] = (slot, now)
        return True

    def leave(self, slot: int) -> list[int]:
        """Accept that a shard has answered; return the slots whose turn may have come."""
        for shard, (there, _) in self._at.items():
            if there == slot:
                del self._at[shard]
                return list(self._waiting.pop(shard, ()))
        return []

    def broken(self, shard: str) -> None:
        """Accept that nothing is at that shard any more."""
        self._at.pop(shard, None)
        self._waiting.pop(shard, None)
