"""What clients sent, and what they were told: the bounds of every read, and what must be there in the end."""

from typing import Final

from tally.client.counts import HourCounts
from tests.simulation.world import Broken, World


class Posted:
    """One event of a client."""

    __slots__ = ("acknowledged", "hour", "keyed", "kind", "number", "slot", "user")

    def __init__(self, number: int, hour: int, kind: int, user: bytes, slot: int, *, keyed: bool) -> None:
        self.number: Final = number
        self.hour: Final = hour
        self.kind: Final = kind
        self.user: Final = user
        self.slot: Final = slot
        self.keyed: Final = keyed
        self.acknowledged = False


class _Tally:
    __slots__ = ("numbers", "users")

    def __init__(self) -> None:
        self.numbers = [0, 0, 0]
        self.users: set[bytes] = set()

    def add(self, event: Posted) -> None:
        self.numbers[event.kind] += 1
        self.users.add(event.user)

    def counts(self) -> HourCounts:
        return HourCounts(len(self.users), self.numbers[1], self.numbers[2])


class Ledger:
    """Sent, acknowledged and read, by hour."""

    def __init__(self, world: World, hours: tuple[int, ...]) -> None:
        self._world = world
        self.events: list[Posted] = []
        self._sent = {hour: _Tally() for hour in hours}
        self._acknowledged = {hour: _Tally() for hour in hours}
        self._read = dict.fromkeys(hours, HourCounts(0, 0, 0))

    def sent(self, event: Posted) -> None:
        """Note an event before it is sent for the first time."""
        self.events.append(event)
        self._sent[event.hour].add(event)

    def acknowledged(self, event: Posted) -> None:
        """Note that an event was acknowledged."""
        if not event.acknowledged:
            event.acknowledged = True
            self._acknowledged[event.hour].add(event)
            self._world.totals["acknowledged events"] += 1

    def floor(self, hour: int) -> HourCounts:
        """Return the least that a read that begins now may answer."""
        least = self._acknowledged[hour].counts()
        return HourCounts(*map(max, least, self._read[hour]))

    def read(self, hour: int, floor: HourCounts, got: HourCounts) -> None:
        """Check the answer of a read that ends now."""
        most = self._sent[hour].counts()
        if any(low > have or have > high for low, have, high in zip(floor, got, most, strict=True)):
            raise Broken(f"a read of hour {hour} got {got}; allowed are {floor} to {most}")
        self._read[hour] = HourCounts(*map(max, got, self._read[hour]))
        self._world.totals["reads"] += 1
