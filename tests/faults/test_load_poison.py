"""An event that ends every shard that counts it: it is set aside, and does not go from shard to shard.

The shards get it by ``--crash-on-user``; whoever crashed is started again at once, as systemd or Kubernetes would. Only
an end with the status of just that counts as a crash, and there must be no other end.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import grpc.aio
import pytest

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.engine.points import CRASHED
from tally.client.suspects import ASIDE_FIRST_S
from tally.cluster.etcd import Etcd, EtcdSettings
from tally.cluster.keys import Keys
from tally.cluster.state import ClusterState
from tally.hashing import MS_PER_HOUR
from tests.faults.probe import SHAPE, Measurement, Row, measured
from tests.faults.rows import LEASE_S, check, new_seed
from tests.support.cluster import GATEWAY, Cluster
from tests.support.etcd import free_ports
from tests.support.events import HOUR, click, slot_of_event, users_of_slot
from tests.support.supervised import End, supervised
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(150)

POISON: Final = "poison"
POISON_HOUR: Final = HOUR + 500_000  # No other client's.
NEIGHBOURS: Final = 60  # Users of the same hour and slot.
CRASHES_MAX: Final = 3
SET_ASIDE_WITHIN_S: Final = 60.0
GOES_ON_S: Final = 3.0
AGAIN_S: Final = 0.3
SHARDS: Final = ("s1", "s2", "s3")
ENVIRONMENT: Final = {shard: {"TALLY_CRASH_ON_USER": POISON} for shard in SHARDS}


class Answer(NamedTuple):
    """What came of one attempt; status 0 and no text if there was none."""

    status: int
    text: str = ""
    retry_after_s: int = 0

    @property
    def is_aside(self) -> bool:
        return "set aside" in self.text


class Poisoner:
    """The client that sends the event, and others to the same slot, until there is a definite answer."""

    def __init__(self, session: aiohttp.ClientSession, cluster: Cluster) -> None:
        self._session = session
        self.cluster = cluster
        slot = slot_of_event(click(POISON, POISON_HOUR), SHAPE)
        self.slot = slot
        self.neighbours = users_of_slot(slot, NEIGHBOURS, SHAPE, POISON_HOUR)

    async def post(self, user: str) -> Answer:
        """Send one event over HTTP, once."""
        url = f"{self.cluster.url}/analytics?timestamp={POISON_HOUR * MS_PER_HOUR}&user={user}&click"
        try:
            async with self._session.post(url, headers={"Idempotency-Key": f"the one of {user}"}) as answer:
                return Answer(answer.status, await answer.text(), int(answer.headers.get("Retry-After", 0)))
        except (aiohttp.ClientError, TimeoutError):
            return Answer(0)

    async def post_until_counted(self, user: str) -> None:
        while (await self.post(user)).status != 204:
            await asyncio.sleep(AGAIN_S)

    async def record(self, shard: str) -> Answer:
        """Send the poison over gRPC, once, to one shard."""
        request = analytics_pb2.RecordRequest()
        request.events.add(
            timestamp_ms=POISON_HOUR * MS_PER_HOUR,
            user=POISON,
            kind=analytics_pb2.KIND_CLICK,
            idempotency_key="the one",
        )
        async with grpc.aio.insecure_channel(self.cluster.address(shard)) as channel:
            try:
                await analytics_pb2_grpc.AnalyticsStub(channel).Record(request, timeout=9.0)
            except grpc.aio.AioRpcError as exc:
                return Answer(503, exc.details() or "")
        return Answer(204)

    async def counted(self) -> str:
        """Return what the hour has."""
        async with self._session.get(f"{self.cluster.url}/analytics?timestamp={POISON_HOUR * MS_PER_HOUR}") as answer:
            return await answer.text()


async def until_set_aside(attempt: Callable[[], Awaitable[Answer]], *, longer_than_s: float = 0.0) -> Answer:
    """Try again and again until the event is set aside, for at least so long; return that answer."""
    async with asyncio.timeout(SET_ASIDE_WITHIN_S):
        while True:
            answer = await attempt()
            assert answer.status != 204, "the hook did not work"
            if answer.is_aside and answer.retry_after_s >= longer_than_s:
                return answer
            await asyncio.sleep(AGAIN_S)


async def stays_aside(attempt: Callable[[], Awaitable[Answer]]) -> None:
    """Hold that the event is refused at once, without a shard that dies of it."""
    end = time.monotonic() + GOES_ON_S
    while time.monotonic() < end:
        assert (await attempt()).is_aside
        await asyncio.sleep(AGAIN_S)


Poisons = Callable[[Poisoner, list[End]], Awaitable[None]]


def with_metrics(cluster: Cluster) -> None:
    """Let every process tell its figures."""
    names = (*cluster.shards, GATEWAY)
    for name, port in zip(names, free_ports(len(names)), strict=True):
        cluster.env.setdefault(name, {})["TALLY_METRICS"] = f"127.0.0.1:{port}"


async def told_as_set_aside(session: aiohttp.ClientSession, cluster: Cluster) -> float:
    """Return how often the processes that run now set an event aside, as a monitor is told."""
    told = 0.0
    for variables in cluster.env.values():
        async with session.get(f"http://{variables['TALLY_METRICS']}/metrics") as page:
            lines = (await page.text()).splitlines()
        told += sum(float(line.split()[1]) for line in lines if line.startswith("tally_events_set_aside_total "))
    return told


async def poisoned(tmp_path: Path, rows: list[Row], fault: str, poisons: Poisons) -> None:
    """Run one row: ``poisons`` sends the event; afterwards its slot must serve as if nothing had been."""
    ends: list[End] = []

    async def strike(measurement: Measurement) -> None:
        nonlocal ends
        cluster = measurement.cluster
        timeout = aiohttp.ClientTimeout(total=9.0)
        async with aiohttp.ClientSession(timeout=timeout) as session, supervised(cluster) as ends:
            poisoner = Poisoner(session, cluster)
            measurement.begins(fault)
            await poisons(poisoner, ends)
            await measurement.is_back()
            for user in poisoner.neighbours:
                assert (await poisoner.post(user)).status == 204, "its slot does not serve the others"
            print(f"ended and started again: {ends}")  # noqa: T201 - pytest shows it with the failure.
            count = len(poisoner.neighbours)
            assert await poisoner.counted() == f"unique_users,{count}\nclicks,{count}\nimpressions,0\n"
            assert await told_as_set_aside(session, cluster) >= 1

    row = await measured(
        tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=new_seed(), env=ENVIRONMENT, prepare=with_metrics
    )
    check(row, rows)
    assert {end.status for end in ends} == {CRASHED}, ends
    assert 2 <= len(ends) <= CRASHES_MAX


async def primary_of(cluster: Cluster, slot: int) -> str:
    etcd, keys = Etcd(EtcdSettings(endpoints=(cluster.etcd.endpoint,))), Keys(cluster.name)
    try:
        state = ClusterState.from_etcd(keys, (await etcd.read_prefix(keys.prefix)).found)
    finally:
        await etcd.close()
    assert state.map is not None
    return state.map.rows[slot].primary


async def test_event_that_crashes_a_shard_twice_is_set_aside_and_its_busy_slot_goes_on(
    tmp_path: Path, rows: list[Row]
) -> None:
    """It travels with many others; each of them is counted, once."""

    async def poisons(poisoner: Poisoner, _: list[End]) -> None:
        middle = len(poisoner.neighbours) // 2
        async with asyncio.timeout(SET_ASIDE_WITHIN_S), asyncio.TaskGroup() as crowd:
            for user in poisoner.neighbours[:middle]:
                crowd.create_task(poisoner.post_until_counted(user))
            crowd.create_task(until_set_aside(lambda: poisoner.post(POISON)))
            for user in poisoner.neighbours[middle:]:
                crowd.create_task(poisoner.post_until_counted(user))
        await stays_aside(lambda: poisoner.post(POISON))

    await poisoned(tmp_path, rows, "poison event in a busy slot", poisons)


@pytest.mark.full
async def test_event_that_crashes_a_shard_twice_is_set_aside_and_for_long_if_a_third_dies_of_it(
    tmp_path: Path, rows: list[Row]
) -> None:
    async def poisons(poisoner: Poisoner, ends: list[End]) -> None:
        first = await until_set_aside(lambda: poisoner.post(POISON))
        # If what the probe sent died with it both times, it is set aside only after it was sent without company.
        deaths = 2 if first.retry_after_s <= ASIDE_FIRST_S else 3
        await until(lambda: len(ends) == deaths)
        await stays_aside(lambda: poisoner.post(POISON))
        await until_set_aside(lambda: poisoner.post(POISON), longer_than_s=2 * ASIDE_FIRST_S)
        await stays_aside(lambda: poisoner.post(POISON))

    await poisoned(tmp_path, rows, "poison event alone", poisons)


@pytest.mark.full
@pytest.mark.parametrize("to_primary", [True, False])
async def test_event_that_crashes_a_shard_twice_is_set_aside_when_it_came_by_grpc(
    tmp_path: Path, rows: list[Row], to_primary: bool
) -> None:
    """Also if it came to the very shard that dies of it: that one must know after its restart."""

    async def poisons(poisoner: Poisoner, _: list[End]) -> None:
        primary = await primary_of(poisoner.cluster, poisoner.slot)
        asked = primary if to_primary else next(shard for shard in SHARDS if shard != primary)
        await until_set_aside(lambda: poisoner.record(asked))
        await stays_aside(lambda: poisoner.record(asked))

    await poisoned(tmp_path, rows, f"poison event by gRPC to {'its primary' if to_primary else 'another'}", poisons)
