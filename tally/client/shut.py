"""Slots whose primary says why it takes nothing, and what their callers are told. Pure.

Rules:
  * "not ready" alone is over in a moment, as a rule: who waits for the slot goes on waiting;
  * a reason that lasts until somebody does something shuts the slot: who comes meanwhile is refused at once, and who
    waited is told so. The sub-batch in doubt is sent again all the time; its next answer says how it stands;
  * any other answer, another primary, a broken stream, or ``SHUT_S`` without an answer opens the slot;
  * of any other reason only those learn whose time ran out.

No clock, no I/O: time is an argument.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from tally.client.outbox import ATTEMPT_S, BACKOFF_MAX_S
from tally.errors import Refusing

SHUT_S: Final = BACKOFF_MAX_S + ATTEMPT_S
"""For so long a reason counts: in that time the sub-batch was sent again, and answered."""

_TEXTS: Final[Mapping[str, str]] = {
    "disk_full": "the disk of shard {shard} is full",
    "few_copies": "too few copies of slot {slot} are in sync",
    "queue_full": "the queue of shard {shard} is full",
    "op_not_committed": "not all copies of slot {slot} that are required acknowledge what is counted",
    "no_room_for_writers": "slot {slot} has too many writers at once",
}
_LASTING: Final = frozenset({"disk_full"})


class _Reason(NamedTuple):
    shard: str
    word: str
    text: str
    since: float


class Shut:
    """Why slots take nothing; false while none is shut, which is nearly always."""

    def __init__(self) -> None:
        """Know of none."""
        self._reasons: dict[int, _Reason] = {}
        self._shut: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._shut)

    def refused(self, slot: int, shard: str, word: str, now: float) -> str | None:
        """Accept that a shard is not ready for a slot, ``word`` says why; return the text if that shuts the slot."""
        if word not in _TEXTS:
            self.over(slot)  # It says nothing, or what only a newer version knows.
            return None
        text = _TEXTS[word].format(shard=shard, slot=slot)
        self._reasons[slot] = _Reason(shard, word, text, now)
        if word in _LASTING:
            self._shut.add(slot)
            return text
        self._shut.discard(slot)
        return None

    def over(self, slot: int) -> None:
        """Accept that nothing is known any more of why a slot would take nothing."""
        if self._reasons.pop(slot, None) is not None:
            self._shut.discard(slot)

    def left(self, shard: str) -> None:
        """Accept that what a shard said does not count any more: its stream broke."""
        for slot in [slot for slot, reason in self._reasons.items() if reason.shard == shard]:
            self.over(slot)

    def moved(self, primaries: Mapping[int, str]) -> None:
        """Accept who is primary now, of all slots for which ``slots`` has a reason."""
        for slot in [slot for slot, reason in self._reasons.items() if primaries.get(slot) != reason.shard]:
            self.over(slot)

    def slots(self) -> list[int]:
        """Return the slots for which a reason is known."""
        return list(self._reasons)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for slot in [slot for slot, reason in self._reasons.items() if now - reason.since > SHUT_S]:
            self.over(slot)

    def why(self, slot: int) -> str:
        """Return why a slot took nothing when it was asked last; "" if that is not known."""
        reason = self._reasons.get(slot)
        return "" if reason is None else reason.text

    def check(self, slots: Iterable[int]) -> None:
        """Raise ``Refusing`` if one of these is shut."""
        for slot in slots:
            if slot in self._shut:
                raise Refusing(self._reasons[slot].text)
