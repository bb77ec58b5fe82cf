"""Events that shards died of: none of them goes from shard to shard and ends one after the other.

Such an event wakes a bug, ours or a library's, that ends the process that counts it. What is in doubt is sent again to
whoever is primary next, so who sends it must notice, and stop.

Rules:
  * a sub-batch gets a strike for each process that died while it was in doubt there: its stream broke, and after that
    nobody listened at the address, or another process ran as that shard. A stream that was cut, a shard that is frozen
    or has lost its lease, is no death. Until it shows which it was, or for ``UNEXPLAINED_S``, it is not sent there
    again: of two deaths in between only one would be seen;
  * at ``STRIKES_MAX`` it is not sent any more, and its events become suspects;
  * a suspect is sent alone. If a process dies with it once more, it is set aside: refused, and not sent, for
    ``ASIDE_S``. If it is answered, it is no suspect any more;
  * a sub-batch of one event that nobody suspected is set aside at ``STRIKES_MAX`` if no other has as many by the same
    death, but for ``ASIDE_FIRST_S`` only: perhaps two processes died of something else.

No clock, no I/O: time is an argument.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tally.errors import SetAside
from tally.event import Event, key_hash

STRIKES_MAX: Final = 2
UNEXPLAINED_S: Final = 2.0  # By then etcd has told of the process that came after it, and this process has read it.
ASIDE_FIRST_S: Final = 15.0
ASIDE_S: Final = 600.0
# Set aside or not; so one that was set aside gets one try alone after it, not ``STRIKES_MAX`` in company.
SUSPECT_S: Final = 2 * ASIDE_S
SUSPECTS_MAX: Final = 10_000


def name_of(event: Event) -> bytes:
    """Return what an event is remembered by: 16 bytes, the same with any idempotency key, without the user's name."""
    return key_hash("", event.hour, event.user, event.kind)


class Strikes:
    """Which processes died while sub-batches were in doubt there. A sub-batch is known by its id."""

    def __init__(self) -> None:
        self._left: dict[int, dict[str, str | None]] = {}
        self._sent_again_at: dict[tuple[int, str], float] = {}
        self._deaths: dict[int, int] = {}

    def left(self, batch: int, shard: str, process: str | None, now: float) -> None:
        """Note that a stream broke before it brought the answer.

        Args:
            batch: The sub-batch that was to be answered.
            shard: To whom the stream went.
            process: The bits of the process that ran as that shard, if they are known.
            now: The time.
        """
        # If it was left there before, that is not explained yet: rather a strike too few than two for one death.
        self._left.setdefault(batch, {}).setdefault(shard, process)
        self._sent_again_at[batch, shard] = now + UNEXPLAINED_S

    def is_unexplained(self, batch: int, shard: str, now: float) -> bool:
        """Tell whether it may still show that the process died there to which it was sent last."""
        return now < self._sent_again_at.get((batch, shard), now)

    def nobody_listens(self, shard: str) -> list[int]:
        """Accept that no process runs as ``shard``; return the sub-batches that it took along."""
        struck = [batch for batch, where in self._left.items() if shard in where]
        for batch in struck:
            self._strike(batch, shard)
        return struck

    def running(self, alive: Mapping[str, str]) -> list[int]:
        """Accept which processes run, shard -> bits; return the sub-batches that others before them took along.

        Each of them once, though several may have died with it.
        """
        struck: dict[int, None] = {}
        for batch, where in self._left.items():
            for shard, process in list(where.items()):
                # Who is not there has lost its lease: it may be frozen.
                if process is not None and alive.get(shard, process) != process:
                    self._strike(batch, shard)
                    struck[batch] = None
        return list(struck)

    def _strike(self, batch: int, shard: str) -> None:
        del self._left[batch][shard]
        self._sent_again_at.pop((batch, shard), None)
        self._deaths[batch] = self.of(batch) + 1

    def of(self, batch: int) -> int:
        """Return how many processes died with a sub-batch."""
        return self._deaths.get(batch, 0)

    def forget(self, batch: int) -> None:
        """Accept that a sub-batch is in doubt no more, or is given up."""
        for shard in self._left.pop(batch, {}):
            self._sent_again_at.pop((batch, shard), None)
        self._deaths.pop(batch, None)


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """What is known of one event; both are times."""

    aside_until: float
    until: float


class Suspects:
    """The events that processes may have died of; false if there are none, which is nearly always."""

    def __init__(self, names_max: int = SUSPECTS_MAX) -> None:
        """Suspect nobody; beyond ``names_max`` the oldest are forgotten."""
        self._names_max = names_max
        self._known: dict[bytes, _Suspicion] = {}  # In the order in which they are to be forgotten.
        self._now = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._known)

    def tick(self, now: float) -> None:
        """Let time pass: forget what is long ago."""
        self._now = now
        while self._known and next(iter(self._known.values())).until <= now:
            del self._known[next(iter(self._known))]

    def strikes_max(self, events: Sequence[Event]) -> int:
        """Return how many processes may die with a sub-batch of these before it is given up."""
        return 1 if self.is_suspect(events) else STRIKES_MAX

    def is_suspect(self, events: Sequence[Event]) -> bool:
        """Tell whether a sub-batch of these is a suspect that was sent alone."""
        return len(events) == 1 and self.alone(events[0])

    def alone(self, event: Event) -> bool:
        """Tell whether an event is to be sent without others."""
        return bool(self._known) and name_of(event) in self._known

    def check(self, events: Iterable[Event]) -> None:
        """Raise ``SetAside`` if one of these is not to be sent."""
        if self._known:
            for place, event in enumerate(events):
                known = self._known.get(name_of(event))
                if known is not None and known.aside_until > self._now:
                    raise SetAside(place, known.aside_until - self._now)

    def blame(self, names: Sequence[bytes], now: float) -> float | None:
        """Take in the events of a sub-batch that has all the strikes that it may have.

        Returns:
            For how many seconds its event is set aside; None if it has several: they are suspects only.
        """
        if len(names) > 1:
            self.suspect(names, now)
            return None
        (name,) = names
        aside_s = ASIDE_S if name in self._known else ASIDE_FIRST_S
        self._keep(name, now + aside_s, now)
        return aside_s

    def suspect(self, names: Iterable[bytes], now: float) -> None:
        """Suspect events; what is set aside already stays so."""
        for name in names:
            known = self._known.get(name)
            self._keep(name, known.aside_until if known is not None else now, now)

    def _keep(self, name: bytes, aside_until: float, now: float) -> None:
        self._now = max(self._now, now)
        self._known.pop(name, None)
        self._known[name] = _Suspicion(aside_until, now + SUSPECT_S)
        if len(self._known) > self._names_max:
            del self._known[next(iter(self._known))]

    def cleared(self, event: Event) -> None:
        """Accept that an event that was sent alone has its answer."""
        if self._known:
            self._known.pop(name_of(event), None)
