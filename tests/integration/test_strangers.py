"""Strangers at the internal service of a real cluster; and its secret: kept, lost with etcd, made for an old one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio

from protos.tally.internal.v1 import node_pb2
from shard.rpc.peer_guard import STRANGER
from tally.client.channel import peer_metadata
from tally.cluster.secret import SECRET_FILE
from tests.support import commands
from tests.support.cluster import GATEWAY, Cluster
from tests.support.etcd import single
from tests.support.events import HOUR
from tests.support.peers import WRONG, channel_to_peer, offering, state_of
from tests.support.waiting import until

METHODS: Final = node_pb2.DESCRIPTOR.services_by_name["Node"].methods
TIMEOUT_S: Final = 10.0
PATIENT_S: Final = 30.0
SLOTS: Final = 8
ATTACKS: Final[dict[str, bytes]] = {
    # What stopped a slot, and froze all changes until `tally recover`.
    "Replicate": node_pb2.ReplicateRequest(
        heads=[node_pb2.HeadsCall(call=slot + 1, slot=slot, epoch=2**62) for slot in range(SLOTS)]
    ).SerializeToString(),
    # What closed a slot to all who came later.
    "Exchange": node_pb2.ExchangeRequest(
        sub_batches=[
            node_pb2.SubBatch(
                id=number + 1,
                writer=number.to_bytes(16, "big"),
                seq=1,
                slot=number % SLOTS,
                epoch=1,
                hours=[HOUR],
                users=[b"nobody"],
                kinds=b"\x01",
            )
            for number in range(6000)
        ]
    ).SerializeToString(),
    # What gave away all names of a slot.
    "Clone": node_pb2.CloneRequest(slot=0, incarnation=b"\x07" * 16).SerializeToString(),
    "FoundCopy": node_pb2.FoundCopyRequest(slot=0, incarnation=b"\x07" * 16).SerializeToString(),
    "SwitchSlots": node_pb2.SwitchSlotsRequest(slots=[0], shards=["s2"]).SerializeToString(),
}


async def count(cluster: Cluster, users: int) -> None:
    async with aiohttp.ClientSession() as session:
        for number in range(users):
            url = f"{cluster.url}/analytics?timestamp={HOUR * 3_600_000}&user=u{number}&click"
            async with session.post(url) as answer:
                assert answer.status == 204, await answer.text()


async def counted(cluster: Cluster) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{cluster.url}/analytics?timestamp={HOUR * 3_600_000}") as answer,
    ):
        assert answer.status == 200, await answer.text()
        return (await answer.text()).splitlines()


async def attack(channel: grpc.aio.Channel, method: str, metadata: grpc.aio.Metadata) -> tuple[Any, Any, list[bytes]]:
    """Call a method with what did harm; return how it ended, and what came back."""
    # On the wire it is the same, whatever the method is declared to be: one message, and the end of the requests.
    begin: Any = channel.unary_stream(f"/tally.internal.v1.Node/{method}")
    call: Any = begin(ATTACKS.get(method, b""), metadata=metadata, timeout=TIMEOUT_S)
    came: list[bytes] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        came.extend([message async for message in call])
    return await call.code(), await call.details(), came


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A cluster with events in it."""
    directory = tmp_path_factory.mktemp("strangers")
    async with Cluster(directory, slots=SLOTS, spread=4, copies=2, lease_s=2) as running:
        await count(running, 50)
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_stranger_gets_nothing_and_changes_nothing(cluster: Cluster) -> None:
    """He may know all but the secret: the cluster's uuid, each shard's id and address."""
    state = await state_of(cluster)
    assert state.map is not None
    assert state.secret is not None
    text = state.secret.reveal()
    for shard in cluster.shards:
        async with channel_to_peer(cluster, shard) as channel:
            for secrets in ((), ("",), (WRONG,), (text[:-1],), (text, text), (text * 2,)):
                for method in METHODS:
                    metadata = offering(state, shard, *secrets, sender="s1")
                    assert await attack(channel, method.name, metadata) == (*STRANGER, [])
    assert (await counted(cluster))[:2] == ["unique_users,50", "clicks,50"]
    await count(cluster, 60)
    assert (await counted(cluster))[:2] == ["unique_users,60", "clicks,110"]
    now = (await state_of(cluster)).map
    assert now is not None
    assert [row.epoch for row in now.rows] == [row.epoch for row in state.map.rows]


@pytest.mark.asyncio(loop_scope="module")
async def test_secret_is_where_it_is_needed_and_nowhere_else(cluster: Cluster) -> None:
    state = await state_of(cluster)
    assert state.secret is not None
    text = state.secret.reveal()
    files = [cluster.data(shard) / SECRET_FILE for shard in cluster.shards]
    await until(lambda: all(file.exists() for file in files), within_s=PATIENT_S)
    map_file = cluster.data("s1").parent / "map.json"
    for file in (*files, map_file):
        assert text in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
    assert {cluster.data(shard).stat().st_mode & 0o777 for shard in cluster.shards} == {0o700}
    where = ("--etcd", cluster.etcd.endpoint, "--cluster", cluster.name)
    shown = [cluster.logs()]
    for command in (("config",), ("config", "-o", "json"), ("status",), ("status", "-o", "json"), ("members",)):
        done = await commands.tally(*command, *where)
        assert done.status == 0, done
        shown += [done.out, done.err]
    again = await commands.tally("secret", "create", *where)
    assert "already; it stays" in again.out
    for name in (*cluster.shards, GATEWAY):
        process = Path(f"/proc/{cluster.pid(name)}")
        shown += [(process / "cmdline").read_text(), (process / "environ").read_text()]
    assert not any(text in one for one in shown)
    assert (await state_of(cluster)).secret == state.secret


@pytest.mark.asyncio(loop_scope="module")
async def test_secret_that_is_replaced_is_taken_over_by_all_who_run(cluster: Cluster) -> None:
    before = await state_of(cluster)
    where = ("--etcd", cluster.etcd.endpoint, "--cluster", cluster.name)
    done = await commands.tally("secret", "replace", *where)
    assert done.status == 0, done
    state = await state_of(cluster)
    assert state.secret not in {None, before.secret}

    for shard in cluster.shards:
        async with channel_to_peer(cluster, shard) as channel, asyncio.timeout(PATIENT_S):
            while await attack(channel, "Status", peer_metadata(before, shard)) != (*STRANGER, []):
                await asyncio.sleep(0.1)
            code, _, came = await attack(channel, "Status", peer_metadata(state, shard))
            assert (code, len(came)) == (grpc.StatusCode.OK, 1)
    cluster.kill("s1")
    cluster.restart("s1")  # Its streams begin with the new one.
    await cluster.wait_ready()
    await count(cluster, 5)
    assert state.secret is not None
    file = cluster.data("s2") / SECRET_FILE
    await until(lambda: json.loads(file.read_text()) == json.loads(state.secret.to_json()), within_s=PATIENT_S)  # type: ignore[union-attr]


@pytest.mark.asyncio(loop_scope="module")
async def test_wiped_etcd_gets_the_secret_back_and_a_gateway_starts_from_its_file_alone(cluster: Cluster) -> None:
    before = await state_of(cluster)
    clicks = (await counted(cluster))[1]
    single(cluster.etcd).wipe()
    cluster.kill(GATEWAY)
    cluster.restart(GATEWAY)
    await cluster.wait_ready()  # By its map file: etcd knows of nothing.
    assert (await counted(cluster))[1] == clicks
    where = ("--etcd", cluster.etcd.endpoint, "--cluster", cluster.name, "--copies", "2")
    done = await commands.tally("recover", *where, "--shards", "3", "--data", str(cluster.data("s1")))
    assert done.status == 0, done
    assert (await state_of(cluster)).secret == before.secret
    for name in (*cluster.shards, GATEWAY):
        cluster.kill(name)
    for name in (*cluster.shards, GATEWAY):
        cluster.restart(name)
    await cluster.wait_ready()
    assert (await counted(cluster))[1] == clicks


@pytest.mark.asyncio(loop_scope="module")
async def test_cluster_of_an_older_version_is_refused_until_a_secret_is_made(cluster: Cluster) -> None:
    """Last in here: it takes the cluster apart."""
    clicks = (await counted(cluster))[1]
    where = ("--etcd", cluster.etcd.endpoint, "--cluster", cluster.name)
    for name in (*cluster.shards, GATEWAY):
        cluster.kill(name)
    # As an older version left it: members without their second address, and no secret anywhere.
    await asyncio.to_thread(cluster.etcd.control, "del", f"/tally/{cluster.name}/secret")
    for shard, member in (await state_of(cluster)).members.items():
        old = {key: value for key, value in json.loads(member.to_json()).items() if key != "peer_address"}
        await asyncio.to_thread(cluster.etcd.control, "put", f"/tally/{cluster.name}/members/{shard}", json.dumps(old))
        (cluster.data(shard) / SECRET_FILE).unlink()
    map_file = cluster.data("s1").parent / "map.json"
    old_map = json.loads(map_file.read_text())
    del old_map["secret"]
    map_file.write_text(json.dumps(old_map))
    for name in (*cluster.shards, GATEWAY):
        cluster.restart(name)
    await until(lambda: {*cluster.shards, GATEWAY} <= set(cluster.ended()), within_s=PATIENT_S)
    for name in (*cluster.shards, GATEWAY):
        last = cluster._log(name).read_text().splitlines()[-1]
        assert f"tally secret create --cluster {cluster.name}" in last
    refused = await commands.tally("status", *where)
    assert refused.status == 1
    assert "tally secret create" in refused.err
    made = await commands.tally("secret", "create", *where)
    assert (made.status, made.out) == (0, f"cluster {cluster.name!r} has a secret now\n")
    for name in (*cluster.shards, GATEWAY):
        cluster.restart(name)
    await cluster.wait_ready()
    assert (await counted(cluster))[1] == clicks
    await until(lambda: "secret" in json.loads(map_file.read_text()), within_s=PATIENT_S)
    assert map_file.stat().st_mode & 0o777 == 0o600
