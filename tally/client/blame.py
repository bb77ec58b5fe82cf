"""What this process knows of shards that died, and of what: a thin driver of ``suspects`` and ``last_words``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from tally.client.last_words import LastWord, LastWords
from tally.client.outbox import SlotOutbox, SubBatch
from tally.client.quarantine import Quarantine
from tally.client.suspects import Strikes, Suspects, name_of
from tally.event import Event

log = structlog.get_logger()


class Own(NamedTuple):
    """A client that is part of a shard, and dies with it."""

    shard: str
    last_words: LastWords


class Blame:
    """Says which sub-batch is to be given up, and which event is not to be sent.

    Attributes:
        set_aside: How often an event was set aside so far; once more when a further process died of it.
    """

    def __init__(self, own: Own | None = None) -> None:
        """Suspect nobody."""
        self.suspects: Final = Suspects()
        self.set_aside = 0
        self._strikes = Strikes()
        self._quarantine = Quarantine()
        self._own = own
        self._struck: set[bytes] = set()  # Events with which the process before this one died, for the first time.

    def start(self, now: float) -> None:
        """Recall what the process before this one may have died of."""
        for word in self._own.last_words.found if self._own is not None else ():
            if word.suspected:
                self.suspects.suspect(word.names, now)
            if word.last:
                self._blame(word.names, now)
            else:
                self._struck.update(word.names)

    def close(self) -> None:
        """Leave no last words: this process ends in order."""
        if self._own is not None:
            self._own.last_words.close()

    def holds_back(self, outbox: SlotOutbox[Any], shard: str, now: float) -> bool:
        """Tell whether what a slot has to send is accused, and has to wait for others that are at the shard."""
        doubtful = outbox.in_doubt
        if doubtful is None:
            suspect = struck = outbox.next_is_suspect
        elif self._strikes.is_unexplained(doubtful.id, shard, now):
            return True
        else:
            suspect = self.suspects.is_suspect(_events(doubtful))
            struck = self._strikes.of(doubtful.id) > 0
        return (suspect or struck) and not self._quarantine.enter(outbox.slot, shard, now, alone=suspect)

    def answered(self, slot: int) -> Sequence[int]:
        """Accept an answer, of whichever kind; return the slots that need not wait for it any more."""
        return self._quarantine.leave(slot)

    def sent(self, batch: SubBatch[Any], shard: str) -> None:
        """Note that a sub-batch is about to be sent."""
        if self._own is None or shard != self._own.shard:
            return
        events = _events(batch)
        names = tuple(map(name_of, events))
        strikes = self._strikes.of(batch.id) + (0 if self._struck.isdisjoint(names) else 1)
        last = strikes + 1 >= self.suspects.strikes_max(events)
        self._own.last_words.note(batch.id, LastWord(names, last, self.suspects.is_suspect(events)))

    def left(self, batch: SubBatch[Any], shard: str, process: str | None, now: float) -> None:
        """Note that a stream broke before it brought the answer; ``process``: what ran there, if that is known."""
        self._strikes.left(batch.id, shard, process, now)

    def stream_ended(self, shard: str, *, refused: bool) -> Sequence[int]:
        """Return the ids of the sub-batches that may be to blame, if it shows that nobody listens there any more."""
        self._quarantine.broken(shard)
        return self._strikes.nobody_listens(shard) if refused else ()

    def running(self, alive: Mapping[str, str]) -> Sequence[int]:
        """Return the ids of the sub-batches that may be to blame for the ends of those that ran before these."""
        return self._strikes.running(alive)

    def is_to_be_given_up(self, batch: SubBatch[Any]) -> bool:
        """Tell whether so many died with it that it must not be sent again."""
        return self._strikes.of(batch.id) >= self.suspects.strikes_max(_events(batch))

    def given_up(self, batch: SubBatch[Any], now: float, *, sure: bool) -> float | None:
        """Suspect its events; return for how many seconds its event is set aside, if it has just one.

        Args:
            batch: What is given up.
            now: The time.
            sure: No other is given up for the same death.
        """
        names = [name_of(event) for event in _events(batch)]
        if not sure and not self.suspects.is_suspect(_events(batch)):
            self.suspects.suspect(names, now)
            return None
        event = batch.entries[0].event
        return self._blame(names, now, slot=batch.slot, hour=event.hour, kind=event.kind)

    def _blame(self, names: Sequence[bytes], now: float, **known: int) -> float | None:
        """Return for how many seconds the event is set aside; None if there are several: they are suspects only."""
        aside_s = self.suspects.blame(names, now)
        if aside_s is not None:
            self.set_aside += 1
            log.error("event_set_aside", **known, hash=names[0].hex(), for_s=aside_s)
        return aside_s

    def refused(self, batch: int) -> None:
        """Accept that a sub-batch was not counted this time; it is still in doubt."""
        if self._own is not None:
            self._own.last_words.strike_out(batch)

    def over(self, batch: SubBatch[Any], *, answered: bool) -> None:
        """Accept that a sub-batch is in doubt no more."""
        self._strikes.forget(batch.id)
        if self._own is not None:
            self._own.last_words.strike_out(batch.id)
        if answered and len(batch.entries) == 1:
            self.suspects.cleared(batch.entries[0].event)


def _events(batch: SubBatch[Any]) -> Sequence[Event]:
    return [entry.event for entry in batch.entries]
