"""The promise about GETs, over HTTP, with many clients at once.

A GET sees every event that was acknowledged before it began, none that was sent after it ended, and never less than a
GET of that hour that ended before it began, whoever asked.
"""

import asyncio
import random
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

import aiohttp

from tally.hashing import MS_PER_HOUR
from tests.support.cluster import Cluster
from tests.support.events import HOUR

SECONDS: Final = 10.0
WRITERS: Final = 48
READERS: Final = 24
HOURS: Final = (HOUR, HOUR + 1, HOUR - 5000)
USERS: Final = 400

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
    """All clients of one run."""

    def __init__(self, session: aiohttp.ClientSession, url: str, seed: int) -> None:
        self._session = session
        self._url = f"{url}/analytics"
        self._seed = seed
        self.hours = [Hour(hour * MS_PER_HOUR) for hour in HOURS]

    async def write(self, number: int, goes_on: Callable[[], bool]) -> None:
        """Send events one after the other."""
        chance = random.Random(f"{self._seed} writer {number}")
        while goes_on():
            hour = chance.choices(self.hours, weights=(8, 1, 1))[0]
            user, kind = f"u{chance.randrange(USERS)}", chance.choice(("click", "impression"))
            hour.sent.add(user, kind)
            async with self._session.post(f"{self._url}?timestamp={hour.timestamp_ms}&user={user}&{kind}") as answer:
                assert answer.status == 204, await answer.text()
            hour.acknowledged.add(user, kind)

    async def read(self, number: int, goes_on: Callable[[], bool]) -> None:
        """Read hours one after the other, and hold each answer against the promise."""
        chance = random.Random(f"{self._seed} reader {number}")
        while goes_on():
            await self.read_once(chance.choices(self.hours, weights=(8, 1, 1))[0])

    async def read_once(self, hour: Hour) -> Numbers:
        """Read an hour, and hold the answer against the promise."""
        at_least = hour.acknowledged.numbers().highest(hour.told)
        async with self._session.get(f"{self._url}?timestamp={hour.timestamp_ms}") as answer:
            text = await answer.text()
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


async def test_gets_see_all_that_was_acknowledged_and_never_go_back(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with the failure.
    connector = aiohttp.TCPConnector(limit=WRITERS + READERS)
    timeout = aiohttp.ClientTimeout(total=20.0)
    async with Cluster(tmp_path) as cluster, aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = Clients(session, cluster.url, seed)
        end = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(clients.write(number, lambda: time.monotonic() < end))
            for number in range(READERS):
                group.create_task(clients.read(number, lambda: time.monotonic() < end))
        for hour in clients.hours:
            assert hour.reads > 10
            assert await clients.read_once(hour) == hour.sent.numbers() == hour.acknowledged.numbers()
