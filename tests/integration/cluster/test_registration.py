"""Registering a shard with a real etcd: it stays, comes back, and knows a copy of itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tally.cluster.etcd import Committed, Compare, Delete, Etcd, EtcdSettings, Put
from tally.cluster.keys import Keys
from tally.cluster.members import Member, Wanted
from tally.cluster.registration import Registration
from tally.errors import BadClusterData, DirectoryCopied, EtcdUnavailable
from tests.support.cluster_values import member
from tests.support.etcd import EtcdServer
from tests.support.waiting import running, until


async def disk_works() -> None:
    return


async def disk_hangs() -> None:
    await asyncio.Event().wait()


def registration(etcd: Etcd, keys: Keys, *, of: Member | None = None) -> Registration:
    return Registration(etcd, keys, shard="s1", member=of or member(1), prove_disk=disk_works, ttl_s=2)


async def alive(etcd: Etcd, keys: Keys) -> str | None:
    found = await etcd.read(keys.alive_of("s1"))
    return found.value.decode() if found else None


async def test_registered_shard_stays_while_it_renews(etcd: Etcd, keys: Keys) -> None:
    place = registration(etcd, keys)
    await place.register()
    lease = place.lease
    async with running(place.run()):
        await asyncio.sleep(3.5)  # Longer than its lease would last.
        assert await alive(etcd, keys) == place.bits
        assert place.lease == lease
    await place.leave()
    assert await alive(etcd, keys) is None
    assert await etcd.read(keys.member("s1")) is not None


async def test_shard_that_can_not_write_goes_from_the_picture(etcd: Etcd, keys: Keys) -> None:
    place = Registration(etcd, keys, shard="s1", member=member(1), prove_disk=disk_hangs, ttl_s=2)
    await place.register()

    async def gone() -> bool:
        return await alive(etcd, keys) is None

    async with running(place.run()):
        await until(gone)
    await place.leave()


async def test_lost_lease_is_followed_by_another_registration(etcd: Etcd, keys: Keys) -> None:
    place = registration(etcd, keys)
    await place.register()
    lost = place.lease
    await etcd.revoke(lost)

    async def back() -> bool:
        return await alive(etcd, keys) == place.bits

    async with running(place.run()):
        await until(back)
        await until(lambda: place.lease != lost)
    await place.leave()


async def test_alive_key_that_was_deleted_is_written_again(etcd: Etcd, keys: Keys) -> None:
    place = registration(etcd, keys)
    await place.register()
    await etcd.commit([], [Delete(keys.alive_of("s1"))])

    async def back() -> bool:
        return await alive(etcd, keys) == place.bits

    async with running(place.run()):
        await until(back)
    await place.leave()


async def test_second_process_with_the_same_directory_ends_the_first(etcd: Etcd, keys: Keys) -> None:
    first, second = registration(etcd, keys), registration(etcd, keys)
    await first.register()
    await second.register()
    with pytest.raises(DirectoryCopied, match="s1"):
        await asyncio.wait_for(first.run(), 5)
    await first.leave()
    assert await alive(etcd, keys) == second.bits
    await second.leave()


async def test_process_that_lost_its_lease_does_not_take_the_place_back(etcd: Etcd, keys: Keys) -> None:
    """It was frozen, and another one has begun meanwhile."""
    first, second = registration(etcd, keys), registration(etcd, keys)
    await first.register()
    await etcd.revoke(first.lease)
    await second.register()
    with pytest.raises(DirectoryCopied):
        await asyncio.wait_for(first.run(), 5)
    await second.leave()


async def test_other_process_that_comes_between_the_look_and_the_registration_is_noticed(
    etcd: Etcd, keys: Keys
) -> None:
    second = registration(etcd, keys)

    class Overtaken(Etcd):
        """The other process registers just when this one asks for its second lease."""

        leases = 0

        async def grant_lease(self, ttl_s: int) -> int:
            self.leases += 1
            if self.leases == 2:
                await second.register()
            return await super().grant_lease(ttl_s)

    overtaken = Overtaken(etcd._settings)
    first = registration(overtaken, keys)
    await first.register()
    await etcd.revoke(first.lease)
    with pytest.raises(DirectoryCopied):
        await asyncio.wait_for(first.run(), 5)
    assert await alive(etcd, keys) == second.bits
    await second.leave()
    await overtaken.close()


async def test_new_address_is_written_and_the_wish_of_the_operator_kept(etcd: Etcd, keys: Keys) -> None:
    await etcd.commit([], [Put(keys.member("s1"), member(1, wanted=Wanted.DRAINING).to_json())])
    moved = replace(member(1), address="10.0.0.7:7001")
    place = registration(etcd, keys, of=moved)
    await place.register()
    found = await etcd.read(keys.member("s1"))
    assert found is not None
    assert Member.from_json(found.value, found.key) == replace(moved, wanted=Wanted.DRAINING)
    await place.leave()


BROKEN = member(1).to_json().replace("active", "drained")


async def read_member(etcd: Etcd, keys: Keys) -> Member:
    found = await etcd.read(keys.member("s1"))
    assert found is not None
    return Member.from_json(found.value, found.key)


async def test_member_that_somebody_wrote_wrongly_is_written_again_with_the_last_wish(etcd: Etcd, keys: Keys) -> None:
    await etcd.commit([], [Put(keys.member("s1"), member(1, wanted=Wanted.DRAINING).to_json())])
    place = registration(etcd, keys)
    await place.register()
    await etcd.commit([], [Put(keys.member("s1"), BROKEN)])

    async def mended() -> bool:
        try:
            return await read_member(etcd, keys) == member(1, wanted=Wanted.DRAINING)
        except BadClusterData:
            return False

    async with running(place.run()):
        await until(mended)
        await etcd.commit([], [Put(keys.member("s1"), member(1).to_json())])
        await asyncio.sleep(1.5)  # Two renewals: what can be read is left alone.
        assert await read_member(etcd, keys) == member(1)
    await place.leave()


async def test_shard_whose_member_was_written_wrongly_starts_once_no_other_process_is_alive(
    etcd: Etcd, keys: Keys
) -> None:
    """Whether that one runs from another directory can't be read."""
    before = registration(etcd, keys)
    await before.register()
    await etcd.commit([], [Put(keys.member("s1"), BROKEN)])
    place = registration(etcd, keys)
    starting = asyncio.create_task(place.register())
    await asyncio.sleep(0.3)
    assert await alive(etcd, keys) == before.bits
    await before.leave()
    await asyncio.wait_for(starting, 5)
    assert await alive(etcd, keys) == place.bits
    assert await read_member(etcd, keys) == member(1)
    await place.leave()


async def test_map_that_changes_meanwhile_delays_a_registration_but_does_not_stop_it(etcd: Etcd, keys: Keys) -> None:
    class Busy(Etcd):
        """Somebody writes the map between the reads and the transaction, twice."""

        changes = 2

        async def commit(self, compare: Sequence[Compare], then: Sequence[Put | Delete]) -> Committed:
            if self.changes:
                self.changes -= 1
                await super().commit([], [Put(keys.map, str(self.changes))])
            return await super().commit(compare, then)

    busy = Busy(etcd._settings)
    place = registration(busy, keys)
    await place.register()
    assert await alive(etcd, keys) == place.bits
    await place.leave()
    await busy.close()


async def test_shard_waits_for_etcd_and_survives_its_restart(own_server: EtcdServer) -> None:
    keys = Keys("t")
    etcd = Etcd(EtcdSettings(endpoints=(own_server.endpoint,)), timeout_s=0.5)
    own_server.stop()
    place = registration(etcd, keys)
    registering = asyncio.create_task(place.register())
    await asyncio.to_thread(own_server.start)
    await asyncio.wait_for(registering, 5)
    async with running(place.run()) as [renewing]:
        await asyncio.to_thread(own_server.stop)
        await asyncio.sleep(1.0)  # Long enough for a renewal to fail.
        assert not renewing.done()
        await asyncio.to_thread(own_server.start)
        lease = place.lease
        await etcd_answers(etcd)
        await etcd.revoke(lease)
        await until(lambda: place.lease != lease)
    own_server.stop()
    await place.leave()  # Without an error.
    await etcd.close()


async def etcd_answers(etcd: Etcd) -> None:
    async def answers() -> bool:
        try:
            await etcd.read("a")
        except EtcdUnavailable:
            return False
        return True

    await until(answers)
