"""What one term asks of the controller, again and again until there is another row. Rules 5, 8, 10 and 11. Pure.

What is asked for only because of somebody's silence is asked for by looks (``silence``), and no longer than it lasts.
"""

from typing import Final

from shard.replica.words import Ask, Effects
from tally.cluster.op_name import OpName
from tally.cluster.rows import Change

ASK_AGAIN_S: Final = 0.5


class Wishes:
    """Shard -> what is asked for about it, one thing each.

    Attributes:
        silent: Those about whom something is asked for only because they are silent.
    """

    def __init__(self, epoch: int) -> None:
        """Begin without any; ``epoch`` is the term's."""
        self.silent: set[str] = set()
        self._epoch = epoch
        self._wanted: dict[str, tuple[Change, str]] = {}
        self._ask_at = self._ask_about_silent_at = 0.0

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def want(self, shard: str, change: Change, incarnation: str) -> None:
        """Ask for this from now on."""
        self.silent.discard(shard)
        self._wanted[shard] = change, incarnation

    def want_at_once(self, shard: str, change: Change, incarnation: str, now: float) -> None:
        """Ask for this from now on, and do not wait for the next time."""
        self.want(shard, change, incarnation)
        self._ask_at = now

    def want_while_silent(self, shard: str, change: Change, incarnation: str) -> None:
        """Ask for this as long as the shard is silent, unless there is more reason for it already."""
        if self._wanted.get(shard) != (change, incarnation):
            self.silent.add(shard)
        self._wanted[shard] = change, incarnation

    def drop(self, shard: str) -> None:
        """Ask for nothing about it any more."""
        self.silent.discard(shard)
        self._wanted.pop(shard, None)

    def ask(self, now: float, effects: Effects) -> None:
        """Ask for what is due, but for what somebody's silence is the reason of."""
        due = [shard for shard in self._wanted if shard not in self.silent]
        if due and now >= self._ask_at:
            self._ask_at = now + ASK_AGAIN_S
            for shard in due:
                self._ask(shard, None, effects)

    def ask_about_silent(self, now: float, doubted: OpName | None, effects: Effects) -> None:
        """Ask for that too; ``doubted`` is the head that removals carry, None with a witness."""
        if self.silent and now >= self._ask_about_silent_at:
            self._ask_about_silent_at = now + ASK_AGAIN_S
            for shard in sorted(self.silent):
                self._ask(shard, doubted, effects)

    def _ask(self, shard: str, doubted: OpName | None, effects: Effects) -> None:
        change, incarnation = self._wanted[shard]
        head = doubted if change is Change.REMOVE else None
        effects.later.append(Ask(change, self._epoch, shard, incarnation, head))
