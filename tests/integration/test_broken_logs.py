"""Processes whose log can't be written, or is not read: they serve as if it could."""

import asyncio
import secrets
from pathlib import Path

import aiohttp
import pytest

from tests.support.broken_logs import CLOSED_STDERR, Broken, broken_logs
from tests.support.cluster import GATEWAY, Cluster
from tests.support.raw_http import RawClient
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)

SECONDS = 1_767_225_600  # Taken for milliseconds: worth a warning.
USERS = 24  # Of one hour: some in a slot of each shard.


def target(timestamp: int = 1_600_000_000_000) -> str:
    return f"/analytics?timestamp={timestamp}&user={secrets.token_hex(4)}&click"


async def post(cluster: Cluster, timestamp: int = 1_600_000_000_000) -> int:
    patient = aiohttp.ClientTimeout(total=12.0)
    url = f"{cluster.url}{target(timestamp)}"
    async with aiohttp.ClientSession(timeout=patient) as session, session.post(url) as answer:
        return answer.status


async def is_ending(cluster: Cluster) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{cluster.url}/readyz") as answer:
            return answer.status != 200
    except aiohttp.ClientError:
        return True


async def serves(cluster: Cluster) -> bool:
    return set(await asyncio.gather(*(post(cluster) for _ in range(USERS)))) == {204}


@pytest.mark.parametrize("how", Broken)
async def test_cluster_whose_logs_are_broken_serves_restarts_and_drains(tmp_path: Path, how: Broken) -> None:
    cluster = Cluster(tmp_path, slots=16, spread=8, copies=3, lease_s=2)
    processes = [*cluster.shards, GATEWAY]
    with broken_logs(tmp_path, processes, how) as logs:
        cluster.log_to.update({name: log.path for name, log in logs.items()})
        if how is Broken.CLOSED:
            cluster.inside.update({name: list(CLOSED_STDERR) for name in processes})
        async with cluster:
            for log in logs.values():
                log.lose_reader()
            port = int(cluster.address(GATEWAY).rpartition(":")[2])
            async with await RawClient.connect(port) as client:
                await client.send(b"GET / HTTP/3.9\r\n\r\n")
                assert (await client.answer()).status == 400
            assert await post(cluster, SECONDS) == 204

            cluster.log_to.pop("s1")  # Its reader is gone: it could not even be opened any more.
            cluster.kill("s1")
            await until(lambda: serves(cluster), within_s=60)
            assert cluster.ended() == ["s1"]

            for shard in ("s2", "s3"):
                cluster.log_to.pop(shard)
                cluster.kill(shard)
            for shard in cluster.shards:
                cluster.restart(shard)
            await cluster.wait_ready()
            await until(lambda: serves(cluster), within_s=60)

            for shard in cluster.shards:
                cluster.stop(shard)
            async with await RawClient.connect(port) as client, await RawClient.connect(port) as other:
                await client.send(f"POST {target()} HTTP/1.1\r\nHost: tally\r\n\r\n".encode())
                assert (await other.ask("GET", "/healthz")).status == 200  # By now the other one is read, too.
                ending = asyncio.create_task(asyncio.to_thread(cluster.terminate, GATEWAY))
                await until(lambda: is_ending(cluster))
                for shard in cluster.shards:
                    cluster.cont(shard)
                assert (await client.answer()).status == 204
            assert await ending == 0
