"""Accused sub-batches go to a shard a few at a time, suspects alone: not all who were near die with the culprit.

A shard counts the sub-batches of many slots in one pass, so one event takes all of them along; sent again together,
they would die together again. Who has a strike, or is a suspect, is accused. What nobody accuses waits for nobody.
After an ordinary failover all that was in doubt is accused, which must not take long: hence a few at a time.

No clock, no I/O: time is an argument.
"""

from typing import Final, NamedTuple

STRUCK_MAX: Final = 4
# An event that ends a process does so at once; who is not answered for so long waits for something else.
TURN_S: Final = 0.25


class _Turn(NamedTuple):
    """When an accused sub-batch was sent, and whether it is to be alone."""

    since: float
    alone: bool


class Quarantine:
    """Which slots' accused sub-batches are at which shard, and which slots' wait for them."""

    def __init__(self) -> None:
        self._at: dict[str, dict[int, _Turn]] = {}
        self._waiting: dict[str, dict[int, None]] = {}

    def enter(self, slot: int, shard: str, now: float, *, alone: bool) -> bool:
        """Let the accused sub-batch of a slot go to a shard, a suspect ``alone``; False: it has to wait for others."""
        there = self._at.setdefault(shard, {})
        others = [turn for other, turn in there.items() if other != slot and now - turn.since < TURN_S]
        if len(others) >= (1 if alone else STRUCK_MAX) or any(turn.alone for turn in others):
            self._waiting.setdefault(shard, {})[slot] = None
            return False
        there[slot] = _Turn(now, alone)
        return True

    def leave(self, slot: int) -> list[int]:
        """Accept that a shard has answered; return the slots whose turn may have come."""
        for shard, there in self._at.items():
            if there.pop(slot, None) is not None:
                return list(self._waiting.pop(shard, ()))
        return []

    def broken(self, shard: str) -> None:
        """Accept that nothing is at that shard any more."""
        self._at.pop(shard, None)
        self._waiting.pop(shard, None)
