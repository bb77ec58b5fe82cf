"""The adapter against a real etcd: what it promises its callers."""

import asyncio
import time

import pytest

from tally.cluster.etcd import (
    Compare,
    CreateRevision,
    Delete,
    Etcd,
    EtcdSettings,
    ModRevision,
    Put,
    ValueIs,
)
from tally.cluster.keys import Keys
from tally.errors import EtcdUnavailable, LeaseGone
from tests.support.etcd import EtcdServer, free_ports
from tests.support.proxy import Proxies
from tests.support.waiting import until


async def put(etcd: Etcd, key: str, value: str | bytes) -> int:
    return (await etcd.commit([], [Put(key, value)])).revision


async def test_key_that_was_put_is_read_with_its_revisions(etcd: Etcd, keys: Keys) -> None:
    assert await etcd.read(keys.map) is None
    created = await put(etcd, keys.map, "ë")
    changed = await put(etcd, keys.map, b"\x00\xff")
    found = await etcd.read(keys.map)
    assert found is not None
    assert found == (keys.map, b"\x00\xff", changed, created)


async def test_transaction_does_all_or_nothing(etcd: Etcd, keys: Keys) -> None:
    made = await put(etcd, keys.map, "one")
    guards: list[tuple[Compare, bool]] = [
        (CreateRevision(keys.map, made), True),
        (CreateRevision(keys.map, made + 1), False),
        (CreateRevision(keys.config, 0), True),
        (CreateRevision(keys.map, 0), False),
        (ModRevision(keys.map, made), True),
        (ModRevision(keys.map, made - 1), False),
        (ModRevision(keys.config, 0), True),
        (ValueIs(keys.map, "one"), True),
        (ValueIs(keys.map, b"two"), False),
        (ValueIs(keys.config, ""), False),
    ]
    for guard, expected in guards:
        committed = await etcd.commit([guard], [Put(keys.controller, repr(guard))])
        assert committed.ok is expected, guard
        written = await etcd.read(keys.controller)
        assert (written is not None and written.value == repr(guard).encode()) is expected
    both = await etcd.commit(
        [ValueIs(keys.map, "one"), ValueIs(keys.map, "two")], [Put(keys.config, ""), Delete(keys.map)]
    )
    assert not both.ok
    assert await etcd.read(keys.config) is None
    assert (await etcd.commit([ValueIs(keys.map, "one")], [Put(keys.config, ""), Delete(keys.map)])).ok
    assert await etcd.read(keys.map) is None


async def test_prefix_is_read_with_nothing_beside_it(etcd: Etcd, keys: Keys) -> None:
    for key in ("a", "b", "a/c"):
        await put(etcd, keys.prefix + key, key)
    await put(etcd, f"{keys.prefix[:-1]}0", "the next key after all of the prefix")
    snapshot = await etcd.read_prefix(keys.prefix)
    assert [one.value for one in snapshot.found] == [b"a", b"a/c", b"b"]
    assert snapshot.count == 3


async def test_poll_brings_only_what_is_new_and_counts_the_rest(etcd: Etcd, keys: Keys) -> None:
    for key in ("a", "b", "c"):
        await put(etcd, keys.prefix + key, "")
    before = await etcd.read_prefix(keys.prefix)
    idle = await etcd.read_prefix(keys.prefix, min_mod_revision=before.revision + 1)
    assert (idle.found, idle.count) == ((), 3)
    await put(etcd, f"{keys.prefix}b", "new")
    await etcd.commit([], [Delete(f"{keys.prefix}c")])
    news = await etcd.read_prefix(keys.prefix, min_mod_revision=before.revision + 1)
    assert [one.value for one in news.found] == [b"new"]
    assert news.count == 2
    assert news.revision == before.revision + 2


async def test_lease_takes_its_keys_with_it_when_revoked(etcd: Etcd, keys: Keys) -> None:
    lease = await etcd.grant_lease(60)
    await etcd.commit([], [Put(keys.alive_of("s1"), "", lease), Put(keys.member("s1"), "")])
    assert await etcd.keep_alive(lease) == 60
    await etcd.revoke(lease)
    assert [one.key for one in (await etcd.read_prefix(keys.prefix)).found] == [keys.member("s1")]
    assert await etcd.keep_alive(lease) == 0
    await etcd.revoke(lease)


async def test_lease_that_nobody_keeps_alive_runs_out(etcd: Etcd, keys: Keys) -> None:
    lease = await etcd.grant_lease(2)
    await etcd.commit([], [Put(keys.alive_of("s1"), "", lease)])

    async def gone() -> bool:
        return await etcd.read(keys.alive_of("s1")) is None

    await until(gone)
    with pytest.raises(LeaseGone):
        await etcd.commit([], [Put(keys.alive_of("s1"), "", lease), Put(keys.member("s1"), "")])
    assert await etcd.read(keys.member("s1")) is None


async def test_dead_first_endpoint_is_passed_by(server: EtcdServer, keys: Keys) -> None:
    etcd = Etcd(EtcdSettings(endpoints=(f"127.0.0.1:{free_ports(1)[0]}", server.endpoint)))
    assert (await etcd.commit([], [Put(keys.map, "")])).ok
    assert await etcd.read(keys.map) is not None
    assert await etcd.keep_alive(await etcd.grant_lease(5)) == 5
    await etcd.close()


async def test_no_endpoint_at_all_is_told_within_the_deadline() -> None:
    dead = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    etcd = Etcd(EtcdSettings(endpoints=dead), timeout_s=0.5)
    begun = time.monotonic()
    for call in (etcd.read("a"), etcd.commit([], []), etcd.grant_lease(5), etcd.keep_alive(1), etcd.revoke(1)):
        with pytest.raises(EtcdUnavailable, match=dead[0]):
            await call
    assert time.monotonic() - begun < 5 * 2 * 0.5
    await etcd.close()


async def connected_to_first(first: EtcdServer, second: EtcdServer, keys: Keys, *, timeout_s: float) -> Etcd:
    """Return a connection that uses the first one; on a busy machine it may have turned it down and gone on."""
    first.control("put", keys.config, "here")
    while True:
        etcd = Etcd(EtcdSettings(endpoints=(first.endpoint, second.endpoint)), timeout_s=timeout_s)
        if await etcd.read(keys.config) is not None:
            return etcd
        await etcd.close()


async def test_frozen_endpoint_delays_a_read_by_one_deadline_and_only_once(
    server: EtcdServer, own_server: EtcdServer, keys: Keys
) -> None:
    etcd = await connected_to_first(own_server, server, keys, timeout_s=2.0)
    own_server.freeze()
    begun = time.monotonic()
    await etcd.read(keys.map)
    assert 2.0 <= time.monotonic() - begun < 3.8
    begun = time.monotonic()
    await etcd.read(keys.map)
    assert time.monotonic() - begun < 1.8
    await etcd.close()


async def test_transaction_without_an_answer_is_not_sent_to_another_endpoint(
    server: EtcdServer, own_server: EtcdServer, keys: Keys
) -> None:
    """It may have been done. The two here are no cluster, so a second try would show."""
    etcd = await connected_to_first(own_server, server, keys, timeout_s=2.0)
    own_server.freeze()
    with pytest.raises(EtcdUnavailable, match="no answer in time"):
        await etcd.commit([], [Put(keys.map, "")])
    begun = time.monotonic()
    assert await etcd.read(keys.map) is None
    assert time.monotonic() - begun < 1.8  # The frozen one is passed by from now on.
    await etcd.close()


async def test_etcd_that_comes_back_is_found_again(own_server: EtcdServer, keys: Keys) -> None:
    etcd = Etcd(EtcdSettings(endpoints=(own_server.endpoint,)))
    await put(etcd, keys.map, "kept")
    own_server.stop()
    with pytest.raises(EtcdUnavailable):
        await etcd.read(keys.map)
    await asyncio.to_thread(own_server.start)

    async def back() -> bool:
        try:
            return await etcd.read(keys.map) is not None
        except EtcdUnavailable:
            return False

    await until(back)
    await etcd.close()


async def test_connection_that_is_dead_without_a_word_costs_one_time_out(server: EtcdServer, keys: Keys) -> None:
    """As when a firewall forgets it: pings would notice after 15 seconds at the earliest."""
    with Proxies() as proxies:
        way = proxies.to(lambda: server.endpoint)
        etcd = Etcd(EtcdSettings(endpoints=(way.address,)), timeout_s=0.5)
        await put(etcd, keys.map, "one")
        way.strand()
        with pytest.raises(EtcdUnavailable):
            await etcd.read(keys.map)
        found = await etcd.read(keys.map)
        assert found is not None
        assert found.value == b"one"
        await etcd.close()


async def test_question_whose_channel_is_closed_under_it_has_no_answer(server: EtcdServer, keys: Keys) -> None:
    """So it is when this process was frozen: another question gave the channel up, and closing it is due at once."""
    with Proxies() as proxies:
        way = proxies.to(lambda: server.endpoint)
        etcd = Etcd(EtcdSettings(endpoints=(way.address,)), timeout_s=5.0)
        lease = await etcd.grant_lease(30)
        for question in (
            lambda: etcd.read(keys.map),
            lambda: etcd.keep_alive(lease),
            lambda: etcd.commit([], [Put(keys.map, "")]),
        ):
            assert await etcd.read(keys.map) is None
            way.strand()
            asking = asyncio.create_task(question())
            await asyncio.sleep(0.1)
            await etcd._nodes.pop(way.address).channel.close()
            with pytest.raises(EtcdUnavailable, match="no answer in time"):
                await asking
        await etcd.close()


async def test_question_that_is_cancelled_is_not_taken_for_one_without_an_answer(
    server: EtcdServer, keys: Keys
) -> None:
    with Proxies() as proxies:
        way = proxies.to(lambda: server.endpoint)
        etcd = Etcd(EtcdSettings(endpoints=(way.address,)), timeout_s=5.0)
        assert await etcd.read(keys.map) is None
        way.strand()
        asking = asyncio.create_task(etcd.read(keys.map))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await etcd.close()
