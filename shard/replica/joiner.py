"""How a copy comes to be, or comes back: it pulls a clone, or the ops that it missed, from the primary (rule 9)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from shard.replica.follower import apply, raise_epoch
from shard.replica.words import Clone, Cloned, Effects, Install, Rename, Send, Stored
from tally.cluster.op_name import OpName

CALL_MAX_S: Final = 5.0  # A call without an answer; a snapshot's chunks count as answers.
AGAIN_S: Final = 0.2
SILENCE_S: Final = 2.0  # Not heard of by the primary for so long: its new term does not know us.


class _Open(NamedTuple):
    call: int
    incarnation: str
    head: OpName | None
    since: float


class Joiner:
    """One copy's attempts to join."""

    def __init__(self, calls: Iterator[int], incarnations: Iterator[str]) -> None:
        self._calls = calls
        self._incarnations = incarnations
        self._open: _Open | None = None
        self._again_at = 0.0

    @property
    def calling(self) -> bool:
        """A call of this copy's own is open: it acknowledges nothing."""
        return self._open is not None

    @property
    def call(self) -> int:
        """The call that is open; 0: none."""
        return self._open.call if self._open is not None else 0

    def progress(self, call: int, now: float) -> None:
        """Note that a part of the answer came: the call is given its time anew."""
        if self._open is not None and self._open.call == call:
            self._open = self._open._replace(since=now)

    def heard(self, now: float) -> None:
        """Note that the primary knows this copy."""
        self._again_at = now + SILENCE_S

    def gap(self, now: float) -> None:
        """Note that an op came that does not fit: ask anew."""
        self._again_at = min(self._again_at, now)

    def next_call(self, primary: str, stored: Stored, now: float, effects: Effects) -> None:
        """Call the primary if it is time to; each call under an incarnation that nobody used before."""
        if self._open is not None and now - self._open.since < CALL_MAX_S:
            return
        if self._open is None and now < self._again_at:
            return
        head = stored.head.name if stored.complete else None
        self._open = _Open(next(self._calls), next(self._incarnations), head, now)
        effects.now.append(Send(primary, self._open.call, Clone(self._open.incarnation, head)))

    def stop(self) -> None:
        """Close the call: nobody wants this copy to join any more, or it did."""
        self._open = None

    def failed(self, call: int, now: float) -> None:
        """Accept that a call is lost."""
        if self._open is not None and self._open.call == call:
            self._open = None
            self._again_at = now + AGAIN_S

    def answered(self, call: int, answer: Cloned, stored: Stored, now: float, effects: Effects) -> Stored:
        """Take what the primary gave; only an answer to the current call may replace what is there."""
        current = self._open
        if current is None or current.call != call:
            return stored
        self._open = None
        self._again_at = now + (SILENCE_S if answer.granted else AGAIN_S)
        if not answer.granted or answer.epoch < stored.epoch:
            return stored
        if answer.ops is None:
            effects.writes.append(Install(current.incarnation, answer.epoch, answer.head, answer.content))
            return Stored(current.incarnation, complete=True, epoch=answer.epoch, head=answer.head)
        if not stored.complete or stored.head.name != current.head:
            return stored
        raised = raise_epoch(stored, answer.epoch, Effects())
        effects.writes.append(Rename(current.incarnation, raised.epoch))
        caught_up = raised._replace(incarnation=current.incarnation)
        for op in answer.ops:
            caught_up = apply(caught_up, op, effects)
        return caught_up
