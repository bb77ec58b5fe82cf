"""A backend in this process's memory: counts honestly, and can be told to fail or to wait."""

import asyncio
from collections import Counter, defaultdict

from tally.client.counts import HourCounts
from tally.errors import Overloaded
from tally.event import Event, Kind


class MemoryBackend:
    """Counts into dictionaries.

    Attributes:
        failure: Raised instead of an answer, if set.
        fails_at_once: Whether it is raised before there is anything to await.
        gate: Answers wait until it is set.
        reasons: What ``not_serving`` says.
        refusals: What ``refusing`` says.
        events_set_aside: No shards, no deaths.
        asked: How many calls there were, of any kind.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.fails_at_once = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reasons: list[str] = []
        self.refusals: list[str] = []
        self.events_set_aside = 0
        self.asked = 0
        self.kinds: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self.users: defaultdict[int, set[bytes]] = defaultdict(set)
        self.keys: set[bytes] = set()

    @property
    def events(self) -> int:
        """How many events were counted in all."""
        return sum(kinds.total() for kinds in self.kinds.values())

    def overload(self) -> Overloaded | None:
        """Say so if the test wants it."""
        return self.failure if self.fails_at_once and isinstance(self.failure, Overloaded) else None

    def record(self, event: Event) -> "asyncio.Task[None]":
        """Count ``event`` once the gate is open."""
        self._begin()
        return asyncio.create_task(self._record(event))

    def read_hour(self, hour: int) -> "asyncio.Task[HourCounts]":
        """Tell the numbers of ``hour`` once the gate is open."""
        self._begin()
        return asyncio.create_task(self._read_hour(hour))

    async def not_serving(self) -> list[str]:
        """Say what the test wants."""
        return list(self.reasons)

    async def standing(self) -> None:
        """There are no slots."""

    def refusing(self) -> list[str]:
        """Say what the test wants."""
        return list(self.refusals)

    def _begin(self) -> None:
        self.asked += 1
        if self.failure is not None and self.fails_at_once:
            raise self.failure

    async def _wait(self) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    async def _record(self, event: Event) -> None:
        await self._wait()
        if event.key in self.keys:
            return
        if event.key:
            self.keys.add(event.key)
        self.kinds[event.hour][event.kind] += 1
        self.users[event.hour].add(event.user)

    async def _read_hour(self, hour: int) -> HourCounts:
        await self._wait()
        kinds = self.kinds[hour]
        return HourCounts(len(self.users[hour]), kinds[Kind.CLICK], kinds[Kind.IMPRESSION])
