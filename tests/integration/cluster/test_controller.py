"""The election and the writing of the map, with a real etcd."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tally.cluster.controller import Controller
from tally.cluster.etcd import Etcd, Put
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat
from tally.cluster.placement import first_map
from tally.cluster.reader import ClusterReader
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tests.support.cluster_values import config, member, members
from tests.support.waiting import running, until


class Shard:
    """What runs of a shard here: its place in etcd, a reader, a controller."""

    def __init__(self, etcd: Etcd, keys: Keys, number: int) -> None:
        self.name = f"s{number}"
        self.etcd = etcd
        self.keys = keys
        self.number = number
        self.lease = 0
        self.hints: list[ClusterState] = []
        self.reader = ClusterReader(etcd, keys, poll_s=0.05)
        self.controller = Controller(
            etcd,
            keys,
            self.reader,
            seat=ControllerSeat(self.name, member(number).address),
            lease=lambda: self.lease,
            hint=self.hint,
            period_s=0.1,
        )

    async def hint(self, state: ClusterState) -> None:
        self.hints.append(state)
        raise ConnectionError("a shard is away")  # Which must not matter.

    async def register(self) -> None:
        self.lease = await self.etcd.grant_lease(30)
        await self.etcd.commit(
            [],
            [
                Put(self.keys.member(self.name), member(self.number).to_json()),
                Put(self.keys.alive_of(self.name), self.name, self.lease),
            ],
        )


@pytest.fixture
async def shards(etcd: Etcd, keys: Keys) -> AsyncIterator[list[Shard]]:
    """Three shards that are not registered yet."""
    await etcd.commit([], [Put(keys.config, config(first_shards=3).to_json())])
    made = [Shard(etcd, keys, number) for number in range(3)]
    for one in made:
        await one.reader.start(0)
    yield made
    for one in made:
        await etcd.revoke(one.lease)


async def test_one_is_elected_and_makes_the_first_map_once_all_are_there(shards: list[Shard]) -> None:
    for one in shards[:2]:
        await one.register()
    work = [run for one in shards for run in (one.reader.run(), one.controller.run())]
    async with running(*work):
        await until(lambda: sum(one.controller.elected for one in shards) == 1)
        assert [one.reader.state.map_revision for one in shards] == [0] * 3
        await shards[2].register()
        await until(lambda: all(one.reader.state.map_revision for one in shards))
        await until(lambda: sum(len(one.hints) for one in shards) == 1)
        revision = shards[0].reader.state.map_revision
        await asyncio.sleep(0.3)  # Some rounds more, in which nothing is left to do.
        assert [one.reader.state.map_revision for one in shards] == [revision] * 3
        assert shards[0].reader.state.map == first_map(8, members(3))
        assert sum(one.controller.elected for one in shards) == 1


async def test_member_that_appears_is_acted_on_at_once(shards: list[Shard]) -> None:
    controller = shards[0].controller
    controller._period_s = 3600
    for one in shards[:2]:
        await one.register()
    async with running(shards[0].reader.run(), controller.run()):
        await until(lambda: controller.elected)
        await shards[2].register()
        await until(lambda: shards[0].reader.state.map is not None, within_s=2)


async def test_another_is_elected_when_the_lease_of_the_first_is_gone(shards: list[Shard]) -> None:
    first, second = shards[:2]
    for one in (first, second):
        await one.register()
    async with running(first.reader.run(), first.controller.run()):
        await until(lambda: first.controller.elected)
    await first.etcd.revoke(first.lease)
    async with running(second.reader.run(), second.controller.run()):
        await until(lambda: second.controller.elected)
    await first.reader.refresh()
    assert not first.controller.elected


async def test_deposed_controller_can_not_write(shards: list[Shard], etcd: Etcd, keys: Keys) -> None:
    """It planned, was frozen, lost its seat, and goes on where it was."""
    first, second = shards[:2]
    for one in shards:
        await one.register()
    await first.controller._round()
    planned_on = await first.reader.refresh()
    assert first.controller.elected
    await etcd.revoke(first.lease)
    await second.controller._round()
    await first.controller._write_map(first_map(8, members(3)), planned_on)
    assert await etcd.read(keys.map) is None


async def test_map_that_changed_since_it_was_planned_on_is_not_overwritten(
    shards: list[Shard], etcd: Etcd, keys: Keys
) -> None:
    await shards[0].register()
    await shards[0].controller._round()
    planned_on = await shards[0].reader.refresh()
    await etcd.commit([], [Put(keys.map, first_map(8, members(1)).to_json())])
    await shards[0].controller._write_map(first_map(8, members(3)), planned_on)
    found = await etcd.read(keys.map)
    assert found is not None
    assert SlotMap.from_json(found.value, keys.map, 8) == first_map(8, members(1))


async def test_seat_of_an_earlier_process_is_not_taken_for_the_own(shards: list[Shard], etcd: Etcd, keys: Keys) -> None:
    """Nor is one that was taken without getting the answer: it is cleared, and taken anew."""
    for one in shards:
        await one.register()
    left = await etcd.commit([], [Put(keys.controller, ControllerSeat("s0", "old:1").to_json(), shards[0].lease)])
    await shards[0].controller._round()
    assert not shards[0].controller.elected
    assert await etcd.read(keys.map) is None
    async with running(shards[0].reader.run(), shards[0].controller.run()):
        await until(lambda: shards[0].controller.elected)
        await until(lambda: shards[0].reader.state.map is not None)
    assert shards[0].reader.state.controller_revision > left.revision


async def test_nobody_runs_for_the_seat_without_a_lease(shards: list[Shard], etcd: Etcd, keys: Keys) -> None:
    await shards[0].controller._round()
    assert await etcd.read(keys.controller) is None
