"""Measures what a fault costs: an availability probe and checking clients on one cluster, and the row that comes of it.

The probe sends a POST without a key and a GET to each of ``SLOTS`` slots every ``PERIOD_S``, each once, and none waits
for another. A slot is unavailable from the sending of its last success to the end of the next one; so a period, and
the time of the request itself, count too. What the probe sends and is told is checked like what the clients do.
"""

import asyncio
import datetime
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from tally.hashing import Shape, bucket_of, slot_of
from tests.faults.outages import Success, unavailable_s, unavailable_within_s
from tests.support.checking_clients import Clients, Hour, Numbers
from tests.support.cluster import Cluster
from tests.support.events import HOUR

SLOTS: Final = 32
PERIOD_S: Final = 0.2
SPREAD: Final = 4
HOURS_TOGETHER: Final = 1
SHAPE: Final = Shape(slots=SLOTS, spreads=((0, SPREAD),), hours_together=HOURS_TOGETHER)
COPIES: Final = 3

_WRITERS: Final = 4  # Of each kind.
_READERS: Final = 2
_PAUSE_S: Final = 0.02
_REQUEST_S: Final = 9.0
# aiohttp takes the connection that has idled longest: with its 15 s, all those that a pause opened would stay for good.
_IDLE_S: Final = 0.5
_BEFORE_S: Final = 2.0
_AFTER_S: Final = 1.5
_COPIES_BACK_S: Final = 60.0
_ASK_STATUS_S: Final = 0.3


class Place(NamedTuple):
    """Where the probe writes and reads for one slot."""

    slot: int
    hour: int
    user: str


def places(seed: int) -> list[Place]:
    """Return one for each slot: an hour and a user whose events that slot owns; no hour twice."""
    chance = random.Random(f"{seed} places")
    found: dict[int, Place] = {}
    hours = list(range(HOUR + 1_000, HOUR + 100_000))
    chance.shuffle(hours)
    for hour in hours:
        user = f"u{chance.randrange(1_000_000)}"
        slot = slot_of(hour, bucket_of(hour, user.encode(), SHAPE), SHAPE)
        found.setdefault(slot, Place(slot, hour, user))
        if len(found) == SLOTS:
            break
    return [found[slot] for slot in range(SLOTS)]


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault cost.

    Attributes:
        fault: What happened.
        lease_s: The lease of the shards.
        lost: How many acknowledged events are not counted.
        doubled: How many events are counted more often than they were sent.
        unknown_percent: How many of the events that are never sent again had no good answer.
        writes_s, reads_s: For how long a slot took no writes, or an hour was not read: the longest of all.
        copies_back_s: From when the last process was back until all copies were in sync, and every slot served.
    """

    fault: str
    lease_s: int
    lost: int
    doubled: int
    unknown_percent: float
    writes_s: float
    reads_s: float
    copies_back_s: float


HEADINGS: Final = ("fault", "lease s", "lost", "doubled", "unknown %", "no writes s", "no reads s", "copies back s")


def cells(row: Row) -> tuple[str, ...]:
    """Return what the table shows of a row, under ``HEADINGS``."""
    measured = (row.unknown_percent, row.writes_s, row.reads_s, row.copies_back_s)
    return (row.fault, str(row.lease_s), str(row.lost), str(row.doubled), *(f"{value:.1f}" for value in measured))


@dataclass
class _Probed:
    """One slot, as the probe sees it."""

    place: Place
    hour: Hour
    writes: list[Success] = field(default_factory=list)
    reads: list[Success] = field(default_factory=list)


class _Paced(Clients):
    """Clients that leave the processors to the cluster, and the probe, which goes past their pauses."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, places: Sequence[Place], seed: int) -> None:
        super().__init__(session, url, hours=(HOUR, HOUR + 1, *(place.hour for place in places)), seed=seed)
        self.plain, self.keyed, *hours = self.hours
        self.probed = [_Probed(place, hour) for place, hour in zip(places, hours, strict=True)]

    async def _post(self, hour: Hour, user: str, kind: str, *, key: str | None = None) -> int:
        await asyncio.sleep(_PAUSE_S)
        return await super()._post(hour, user, kind, key=key)

    async def read_once(self, hour: Hour) -> Numbers | None:
        await asyncio.sleep(_PAUSE_S)
        return await super().read_once(hour)

    async def probe_write(self, probed: _Probed) -> None:
        """Send one event to a slot, once."""
        user = probed.place.user
        probed.hour.sent.add(user, "click")
        sent = time.monotonic()
        if await super()._post(probed.hour, user, "click") == 204:
            probed.writes.append(Success(sent, time.monotonic()))
            probed.hour.acknowledged.add(user, "click")
        else:
            self.unknown += 1

    async def probe_read(self, probed: _Probed) -> None:
        """Read a slot's hour once."""
        sent = time.monotonic()
        if await super().read_once(probed.hour) is not None:
            probed.reads.append(Success(sent, time.monotonic()))

    async def numbers(self, hour: Hour) -> Numbers:
        """Return what an hour has, unchecked: whoever asks counts what is wrong with it."""
        async with self._session.get(f"{self._url}?timestamp={hour.timestamp_ms}") as answer:
            text = await answer.text()
            assert answer.status == 200, text
        return Numbers(*(int(line.split(",")[1]) for line in text.splitlines()))

    async def probe(self, goes_on: Callable[[], bool]) -> None:
        """Write to each slot and read from it once per period, whatever becomes of the requests before."""
        async with asyncio.TaskGroup() as requests:
            due = time.monotonic()
            for probed in itertools.cycle(self.probed):
                await asyncio.sleep(due - time.monotonic())
                if not goes_on():
                    break
                requests.create_task(self.probe_write(probed))
                requests.create_task(self.probe_read(probed))
                due += PERIOD_S / len(self.probed)

    async def work(self, goes_on: Callable[[], bool]) -> None:
        """Let all of them work, and the probe."""
        async with asyncio.TaskGroup() as group:
            for number in range(_WRITERS):
                group.create_task(self.write(number, self.plain, goes_on))
                group.create_task(self.write_until_definite(number, self.keyed, goes_on))
            for number in range(_READERS):
                group.create_task(self.read(self.hours[number], goes_on))
            group.create_task(self.probe(goes_on))


class Measurement:
    """One kind of fault on one cluster, perhaps several times: ``begins`` and then ``is_back``, then ``row``."""

    def __init__(self, cluster: Cluster, clients: _Paced, *, fault: str, lease_s: int) -> None:
        self.cluster = cluster
        self._clients = clients
        self._fault = fault
        self._lease_s = lease_s
        self._begun: float | None = None
        self._copies_back_s = 0.0

    def begins(self, what: str) -> None:
        """Note that the fault begins now."""
        now = datetime.datetime.now(datetime.UTC)
        print(f"{now.isoformat()} {what}")  # noqa: T201 - as the logs say it.
        self._begun = self._begun or time.monotonic()

    async def is_back(self) -> float:
        """Note that all processes run again, and wait until all copies are back; return for how long."""
        back = time.monotonic()
        await _copies_back(self.cluster)
        took = time.monotonic() - back
        self._copies_back_s = max(self._copies_back_s, took)
        return took

    def away_s(self, begin: float, end: float) -> tuple[float, float]:
        """Return for how long, between two times, a slot took no writes, and was not read: the longest of all."""
        writes = (unavailable_within_s(one.writes, begin=begin, end=end) for one in self._clients.probed)
        reads = (unavailable_within_s(one.reads, begin=begin, end=end) for one in self._clients.probed)
        return max(writes), max(reads)

    async def row(self, ended: float) -> Row:
        """Count what became of all events, and return what the fault cost; nothing is sent any more."""
        assert self._begun is not None
        lost = doubled = sent = 0
        for hour in self._clients.hours:
            counted = await self._clients.numbers(hour)
            lost += _excess(hour.acknowledged.numbers(), counted)
            doubled += _excess(counted, hour.sent.numbers())
            if hour is not self._clients.keyed:
                sent += hour.sent.clicks + hour.sent.impressions
        probed = self._clients.probed
        return Row(
            fault=self._fault,
            lease_s=self._lease_s,
            lost=lost,
            doubled=doubled,
            unknown_percent=100 * self._clients.unknown / sent,
            writes_s=max(unavailable_s(one.writes, begin=self._begun, end=ended) for one in probed),
            reads_s=max(unavailable_s(one.reads, begin=self._begun, end=ended) for one in probed),
            copies_back_s=self._copies_back_s,
        )


def _excess(more: Numbers, less: Numbers) -> int:
    return sum(max(0, ours - its) for ours, its in zip(more, less, strict=True))


async def _copies_back(cluster: Cluster) -> None:
    end = time.monotonic() + _COPIES_BACK_S
    said: object = None
    while time.monotonic() < end:
        said = status = await cluster.status()
        if status and status["all_serve"] and status["copies_missing"] == 0:
            return
        await asyncio.sleep(_ASK_STATUS_S)
    raise AssertionError(f"not all copies are back after {_COPIES_BACK_S} s: {said}")


async def measured(
    path: Path,
    strike: Callable[[Measurement], Awaitable[None]],
    *,
    fault: str,
    lease_s: int,
    seed: int,
    prepare: Callable[[Cluster], object] = lambda _: None,
    **settings: Any,
) -> Row:
    """Start a cluster, put load on it, let ``strike`` do what it does, and return what that cost.

    Args:
        path: For its data and logs.
        strike: The fault; it calls ``begins`` before it and ``is_back`` after it.
        fault: What the table calls it.
        lease_s: The lease of the shards.
        seed: Of all that is random.
        prepare: Called with the cluster before it is started.
        settings: Further ones of ``Cluster``.

    Raises:
        AssertionError: A read was told too little or too much, or the copies did not come back.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S)
    timeout = aiohttp.ClientTimeout(total=_REQUEST_S)
    shape = {"slots": SLOTS, "spread": SPREAD, "hours_together": HOURS_TOGETHER, "copies": COPIES}
    cluster = Cluster(path, **{**shape, **settings}, lease_s=lease_s)
    prepare(cluster)
    async with cluster, aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await _copies_back(cluster)
        clients = _Paced(session, cluster.url, places=places(seed), seed=seed)
        measurement = Measurement(cluster, clients, fault=fault, lease_s=lease_s)
        ended = float("inf")
        async with asyncio.TaskGroup() as group:
            group.create_task(clients.work(lambda: time.monotonic() < ended))
            await asyncio.sleep(_BEFORE_S)
            await strike(measurement)
            await asyncio.sleep(_AFTER_S)
            ended = time.monotonic()
        row = await measurement.row(ended)
        assert clients.keyed.sent.numbers() == clients.keyed.acknowledged.numbers()
    return row
