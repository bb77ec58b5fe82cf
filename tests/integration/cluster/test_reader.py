"""The reader against a real etcd, and its file."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tally.cluster.etcd import Delete, Etcd, EtcdSettings, Put
from tally.cluster.keys import Keys
from tally.cluster.planning.placement import first_map
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import new_term, with_rows
from tally.errors import ClusterMissing, ClusterReplaced, EtcdUnavailable
from tests.support.cluster_values import SECRET, config, member, members
from tests.support.etcd import EtcdServer, free_ports
from tests.support.waiting import running, until


def founding(keys: Keys) -> list[Put]:
    """Return what ``tally create`` writes."""
    return [Put(keys.config, config().to_json()), Put(keys.secret, SECRET.to_json())]


async def make_cluster(etcd: Etcd, keys: Keys) -> None:
    first = first_map(8, members(3))
    await etcd.commit([], [*founding(keys), Put(keys.map, first.to_json())])


async def kept_file(etcd: Etcd, keys: Keys, file: Path) -> ClusterReader:
    """Make a cluster and return a reader of it that has written its file."""
    await make_cluster(etcd, keys)
    reader = ClusterReader(etcd, keys, file=file)
    await reader.start(0)
    async with running(reader.run()):
        await until(file.exists)
    return reader


async def test_running_reader_sees_a_change(etcd: Etcd, keys: Keys) -> None:
    await make_cluster(etcd, keys)
    reader = ClusterReader(etcd, keys, poll_s=0.05)
    await reader.start(0)
    async with running(reader.run()):
        lease = await etcd.grant_lease(30)
        await etcd.commit([], [Put(keys.member("s1"), member(1).to_json()), Put(keys.alive_of("s1"), "00" * 8, lease)])
        await until(lambda: reader.state.alive == {"s1": "00" * 8})
        assert reader.state.members == {"s1": member(1)}
        await etcd.revoke(lease)
        await until(lambda: not reader.state.alive)
        assert reader.state.members == {"s1": member(1)}


async def test_map_that_was_deleted_is_held(etcd: Etcd, keys: Keys) -> None:
    await make_cluster(etcd, keys)
    reader = ClusterReader(etcd, keys)
    await reader.start(0)
    held = reader.state
    await etcd.commit([], [Delete(keys.map)])
    assert await reader.refresh() == replace(held, map_revision=0, rolled_back=True)


async def test_map_of_a_restored_etcd_is_ignored_until_it_is_a_newer_one(own_server: EtcdServer, keys: Keys) -> None:
    """Its keys are those of the backup, and its revisions begin again at a low number."""
    etcd = Etcd(EtcdSettings(endpoints=(own_server.endpoint,)))
    for _ in range(9):
        await make_cluster(etcd, keys)
    reader = ClusterReader(etcd, keys)
    await reader.start(0)
    held = reader.state
    with EtcdServer() as restored:
        reader._etcd = Etcd(EtcdSettings(endpoints=(restored.endpoint,)))
        other = first_map(8, members(2))
        newer = with_rows(other, {slot: new_term(row) for slot, row in enumerate(other.rows)})
        with pytest.raises(ClusterMissing, match="tally recover"):
            await reader.refresh()
        assert reader.state == held
        for written, taken in ((other, held.map), (newer, newer)):
            put = [*founding(keys), Put(keys.map, written.to_json())]
            revision = (await reader._etcd.commit([], put)).revision
            assert revision < held.map_revision
            state = await reader.refresh()
            assert (state.map, state.map_revision, state.rolled_back) == (taken, revision, written is other)
        await reader._etcd.close()
    await etcd.close()


async def test_start_waits_for_a_cluster_that_is_about_to_be_made(etcd: Etcd, keys: Keys) -> None:
    reader = ClusterReader(etcd, keys)
    starting = asyncio.create_task(reader.start(10))
    with pytest.raises(ClusterMissing):
        await ClusterReader(etcd, keys).start(0)
    await make_cluster(etcd, keys)
    await starting
    assert reader.state.config == config()


async def test_gateway_starts_from_its_file_when_etcd_is_away(etcd: Etcd, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    reader = await kept_file(etcd, keys, file)
    assert not list(tmp_path.glob("*.tmp"))

    away = Etcd(EtcdSettings(endpoints=(f"127.0.0.1:{free_ports(1)[0]}",)), timeout_s=0.5)
    later = ClusterReader(away, keys, file=file)
    await later.start(0)
    assert (later.state.map, later.state.map_revision) == (reader.state.map, reader.state.map_revision)
    for damaged in (None, "", json.dumps({"config": 1})):
        file.unlink() if damaged is None else file.write_text(damaged)
        with pytest.raises(EtcdUnavailable):
            await ClusterReader(away, keys, file=file).start(0)
    await away.close()


async def test_gateway_starts_from_its_file_when_etcd_has_lost_the_cluster(
    etcd: Etcd, keys: Keys, tmp_path: Path
) -> None:
    """The shards serve on, and ``tally recover`` brings the cluster back: this one waits for it like all others."""
    file = tmp_path / "state.json"
    held = (await kept_file(etcd, keys, file)).state
    await etcd.commit([], [Delete(keys.config), Delete(keys.map)])
    later = ClusterReader(etcd, keys, file=file, poll_s=0.05)
    await later.start(0)
    assert (later.state.config, later.state.map) == (held.config, held.map)
    with pytest.raises(ClusterMissing):
        await later.refresh()
    async with running(later.run()):
        await make_cluster(etcd, keys)
        await etcd.commit([], [Put(keys.member("s1"), member(1).to_json())])
        await until(lambda: "s1" in later.state.members)
    for damaged in (None, "", json.dumps({"config": 1})):
        file.unlink() if damaged is None else file.write_text(damaged)
        await etcd.commit([], [Delete(keys.config)])
        with pytest.raises(ClusterMissing, match="tally recover"):
            await ClusterReader(etcd, keys, file=file).start(0)


async def test_gateway_that_started_from_its_file_ends_when_the_cluster_was_made_anew(
    etcd: Etcd, keys: Keys, tmp_path: Path
) -> None:
    file = tmp_path / "state.json"
    await kept_file(etcd, keys, file)
    await etcd.commit([], [Delete(keys.config), Delete(keys.map)])
    later = ClusterReader(etcd, keys, file=file, poll_s=0.05)
    await later.start(0)
    run = asyncio.create_task(later.run())
    await etcd.commit([], [Put(keys.config, config(uuid="f" * 32).to_json())])
    with pytest.raises(ClusterReplaced, match="uuid"):
        await asyncio.wait_for(run, 10)


async def test_state_from_the_file_is_replaced_when_etcd_is_back(own_server: EtcdServer, tmp_path: Path) -> None:
    keys, file = Keys("t"), tmp_path / "state.json"
    etcd = Etcd(EtcdSettings(endpoints=(own_server.endpoint,)), timeout_s=0.5)
    await kept_file(etcd, keys, file)
    await etcd.commit([], [Put(keys.member("s1"), member(1).to_json())])
    own_server.stop()
    reader = ClusterReader(etcd, keys, file=file, poll_s=0.05)
    await reader.start(0)
    assert reader.state.members == {}
    async with running(reader.run()):
        await asyncio.to_thread(own_server.start)
        await until(lambda: "s1" in reader.state.members)
        await until(lambda: '"s1"' in file.read_text())
    await etcd.close()


async def test_file_that_can_not_be_written_stops_nothing(etcd: Etcd, keys: Keys, tmp_path: Path) -> None:
    await make_cluster(etcd, keys)
    reader = ClusterReader(etcd, keys, file=tmp_path / "none" / "state.json", poll_s=0.05)
    await reader.start(0)
    async with running(reader.run()):
        await etcd.commit([], [Put(keys.member("s1"), member(1).to_json())])
        await until(lambda: "s1" in reader.state.members)
