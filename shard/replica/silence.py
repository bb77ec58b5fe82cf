"""When another copy counts as silent, and when this copy may be believed about that. Rule 5. Pure.

Who asks that a silent member be removed may be the one at fault: its own disk is slow, and the answers wait in its
inbox; or its disk was set back, and the silent member has what it lost. So silence is counted by looks, and a primary
without a witness is doubted.
"""

from typing import Final

from shard.replica.words import Op
from tally.cluster.op_name import OpName

LOOK_MAX_S: Final = 0.3


class Looks:
    """A clock that goes on only while somebody looks.

    If the last look was long ago, this process was stopped, or late, or waited for its disk: then nobody else was
    silent for all that time, and what came meanwhile may not be heard yet.
    """

    def __init__(self, now: float) -> None:
        """Begin at 0."""
        self.s = 0.0  # At the last look.
        self._looked_at = now

    def look(self, now: float) -> bool:
        """Go on to ``now``, by ``LOOK_MAX_S`` at most; return whether the look is in time, so that it can judge."""
        in_time = now - self._looked_at <= LOOK_MAX_S
        self.s = self.at(now)
        self._looked_at = now
        return in_time

    def at(self, now: float) -> float:
        """Return what the clock would show if this were a look."""
        return self.s + min(LOOK_MAX_S, now - self._looked_at)


class Witness:
    """Whether, in this process, something showed that this copy lost nothing; it lasts as long as the process.

    Attributes:
        there: It did.
    """

    def __init__(self) -> None:
        """Begin without: the disk that was found may be older than it was."""
        self.there = False
        self._with_flush = False

    def founded(self) -> None:
        """Note that this copy was begun here, and flushed."""
        self.there = True

    def answered(self, mine: Op, its: OpName) -> None:
        """Note what a member of my row answered to my Heads: my head, or the one before it, vouches for mine."""
        before = mine.previous if mine.previous.opnum + 1 == mine.name.opnum else None
        self.there = self.there or its in {mine.name, before}

    def with_flush(self) -> None:
        """Note that what is being written, another's head or a whole copy, is from a member; it is not flushed yet."""
        self._with_flush = True

    def flushed(self) -> None:
        """Note that it is."""
        self.there = self.there or self._with_flush
        self._with_flush = False
