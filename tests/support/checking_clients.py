"""Clients that check what they are told while they send: the promises of README, over HTTP.

Some send without keys and never again: acknowledged <= counted <= sent. Some send with keys and again until there is a
definite answer: counted == sent. Readers hold every answer against what was acknowledged before they asked, what was
sent before they were answered, and what any of them was told before.
"""

import asyncio
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import aiohttp

from tally.hashing import MS_PER_HOUR

USERS: Final = 400
RESEND_S: Final = 0.2

_ANSWER: Final = re.compile(r"unique_users,([0-9]+)\nclicks,([0-9]+)\nimpressions,([0-9]+)\n")


class Numbers(NamedTuple):
    """The numbers of an hour."""

    users: int
    clicks: int
    impressions: int

    def all_at_most(self, other: Self) -> bool:
        """Tell whether none of them is greater."""
        return all(mine <= its for mine, its in zip(self, other, strict=True))

    def highest(self, other: Self) -> "Numbers":
        """Return the greater of each."""
        return Numbers(*map(max, self, other))


_NOTHING: Final = Numbers(0, 0, 0)


@dataclass
class Tally:
    """What an hour must have counted of some events."""

    users: set[str] = field(default_factory=set)
    clicks: int = 0
    impressions: int = 0

    def add(self, user: str, kind: str) -> None:
        """Count an event."""
        self.users.add(user)
        if kind == "click":
            self.clicks += 1
        else:
            self.impressions += 1

    def numbers(self) -> Numbers:
        """Return the numbers now."""
        return Numbers(len(self.users), self.clicks, self.impressions)


@dataclass
class Hour:
    """What is known of one hour: everything here happens in one thread, so it has an order."""

    timestamp_ms: int
    sent: Tally = field(default_factory=Tally)
    acknowledged: Tally = field(default_factory=Tally)
    told: Numbers = _NOTHING  # The highest that any GET told that has ended.
    reads: int = 0


class Clients:
    """All clients of one run.

    Attributes:
        hours: What is known of each hour.
        unknown: How many events were sent without a definite answer, by clients that never send again.
        refused_reads: How many GETs had no numbers.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, *, hours: Sequence[int], seed: int) -> None:
        self._session = session
        self._url = f"{url}/analytics"
        self._seed = seed
        self.hours = [Hour(hour * MS_PER_HOUR) for hour in hours]
        self.unknown = 0
        self.refused_reads = 0

    async def write(self, number: int, hour: Hour, goes_on: Callable[[], bool]) -> None:
        """Send events one after the other, without keys and each once."""
        for user, kind in self._events(f"writer {number}", goes_on):
            hour.sent.add(user, kind)
            if await self._post(hour, user, kind) == 204:
                hour.acknowledged.add(user, kind)
            else:
                self.unknown += 1

    async def write_until_definite(self, number: int, hour: Hour, goes_on: Callable[[], bool]) -> None:
        """Send events one after the other, each with a key and again until it is acknowledged."""
        for place, (user, kind) in enumerate(self._events(f"keyed writer {number}", goes_on)):
            hour.sent.add(user, kind)
            while await self._post(hour, user, kind, key=f"{self._seed}-{number}-{place}") != 204:
                await asyncio.sleep(RESEND_S)
            hour.acknowledged.add(user, kind)

    def _events(self, who: str, goes_on: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        chance = random.Random(f"{self._seed} {who}")
        while goes_on():
            yield f"u{chance.randrange(USERS)}", chance.choice(("click", "impression"))

    async def _post(self, hour: Hour, user: str, kind: str, *, key: str | None = None) -> int:
        """Return the status of one POST, 0 if there was none."""
        headers = {"Idempotency-Key": key} if key else {}
        url = f"{self._url}?timestamp={hour.timestamp_ms}&user={user}&{kind}"
        try:
            async with self._session.post(url, headers=headers) as answer:
                assert answer.status in {204, 503}, await answer.text()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(RESEND_S)  # Who finds nobody there does not ask without a pause.
            return 0

    async def read(self, hour: Hour, goes_on: Callable[[], bool]) -> None:
        """Read an hour again and again, and hold each answer against the promise."""
        while goes_on():
            if await self.read_once(hour) is None:
                self.refused_reads += 1
                await asyncio.sleep(RESEND_S)

    async def read_once(self, hour: Hour) -> Numbers | None:
        """Read an hour, and hold the answer against the promise; None if there was none."""
        at_least = hour.acknowledged.numbers().highest(hour.told)
        try:
            async with self._session.get(f"{self._url}?timestamp={hour.timestamp_ms}") as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        if answer.status == 503:
            return None
        assert answer.status == 200, text
        found = _ANSWER.fullmatch(text)
        assert found, text
        numbers = Numbers(*map(int, found.groups()))
        at_most = hour.sent.numbers()
        assert at_least.all_at_most(numbers), f"{numbers} misses something of {at_least}"
        assert numbers.all_at_most(at_most), f"{numbers} has more than the {at_most} that were sent"
        hour.told = hour.told.highest(numbers)
        hour.reads += 1
        return numbers
