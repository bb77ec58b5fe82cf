"""An etcd that answers, but can't do what it is asked: full, or without enough of its members."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tally.cluster.etcd import Etcd, EtcdSettings, Put, parse_endpoints
from tally.cluster.keys import Keys
from tally.errors import EtcdFull, EtcdUnavailable
from tests.support.etcd import EtcdMembers, EtcdServer, fill, make_room
from tests.support.waiting import until

QUOTA_BYTES: Final = 1024 * 1024


@pytest.fixture
def small() -> Iterator[EtcdServer]:
    with EtcdServer(quota_bytes=QUOTA_BYTES) as server:
        yield server


async def test_full_etcd_takes_no_keys_and_no_leases_until_there_is_room(small: EtcdServer, keys: Keys) -> None:
    etcd = Etcd(EtcdSettings(endpoints=(small.endpoint,)))
    await etcd.commit([], [Put(keys.map, "before")])
    lease = await etcd.grant_lease(30)
    assert await etcd.alarms() == ()
    await asyncio.to_thread(fill, small)
    assert await etcd.alarms() == ("NOSPACE",)
    with pytest.raises(EtcdFull, match="alarm disarm"):
        await etcd.commit([], [Put(keys.map, "after")])
    with pytest.raises(EtcdFull):
        await etcd.grant_lease(30)
    assert await etcd.keep_alive(lease) == 30
    found = await etcd.read(keys.map)
    assert found is not None
    assert found.value == b"before"
    await asyncio.to_thread(make_room, small)
    assert await etcd.alarms() == ()
    assert (await etcd.commit([], [Put(keys.map, "after")])).ok
    await etcd.close()


async def test_member_without_a_leader_says_so_at_once_and_the_error_tells_of_each(keys: Keys) -> None:
    with EtcdMembers() as members:
        etcd = Etcd(EtcdSettings(endpoints=parse_endpoints(members.endpoint)))
        assert (await etcd.commit([], [Put(keys.map, "kept")])).ok
        members.stop(0, 1)

        async def told() -> bool:
            begun = time.monotonic()
            try:
                await etcd.read(keys.map)
            except EtcdUnavailable as exc:
                text = str(exc)
                if "no leader" not in text:  # It has not noticed yet that it is alone.
                    return False
                assert f"{members.endpoints[0]}: no connection" in text
                assert f"{members.endpoints[2]}: etcdserver: no leader" in text
                return time.monotonic() - begun < 1.0
            raise AssertionError("one of three answered")

        await until(told, within_s=30.0)
        await asyncio.to_thread(members.start)
        found = await etcd.read(keys.map)
        assert found is not None
        await etcd.close()
