"""``tally recover`` on real processes: after a wrong ``tally create``, and without a shard that is gone for good."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp

from tests.support import commands
from tests.support.cluster import Cluster
from tests.support.etcd import single
from tests.support.events import HOUR
from tests.support.waiting import until

EVENTS: Final = 120
PATIENT_S: Final = 30.0


def url(cluster: Cluster, number: int) -> str:
    """Return where the hour of an event is counted: some hours, so that every slot has events."""
    return f"{cluster.url}/analytics?timestamp={(HOUR + number % 10) * 3_600_000}"


async def count(cluster: Cluster) -> None:
    async with aiohttp.ClientSession() as session:
        for number in range(EVENTS):
            async with session.post(f"{url(cluster, number)}&user=u{number}&click") as answer:
                assert answer.status == 204, await answer.text()


async def assert_counted(cluster: Cluster) -> None:
    """Hold that every event is counted once."""
    await cluster.wait_ready()
    expected = Counter(number % 10 for number in range(EVENTS))
    async with aiohttp.ClientSession() as session:
        for number in range(10):
            async with session.get(url(cluster, number)) as answer:
                lines = (await answer.text()).splitlines()
                assert lines[:2] == [f"unique_users,{expected[number]}", f"clicks,{expected[number]}"], lines


def arguments(cluster: Cluster, *more: str) -> tuple[str, ...]:
    return ("recover", "--etcd", cluster.etcd.endpoint, "--cluster", cluster.name, "--copies", "2", *more)


async def test_cluster_that_was_made_anew_in_an_empty_etcd_is_exchanged_for_the_old_one(tmp_path: Path) -> None:
    """Its shards end rather than join the new one, and refuse to start; then they take their data back."""
    async with Cluster(tmp_path, slots=8, spread=4, copies=2, lease_s=2) as cluster:
        await count(cluster)
        single(cluster.etcd).wipe()
        made = await commands.tally("create", "--etcd", cluster.etcd.endpoint, "--cluster", cluster.name)
        assert made.status == 0, made
        await until(lambda: set(cluster.shards) <= set(cluster.ended()), within_s=PATIENT_S)
        cluster.restart("s1")
        await until(lambda: "s1" in cluster.ended(), within_s=PATIENT_S)
        assert "tally recover --data" in cluster._log("s1").read_text()
        recovering = await commands.begin(*arguments(cluster, "--shards", "3", "--data", str(cluster.data("s1"))))
        assert recovering.stderr is not None
        assert b"waiting for shards" in await recovering.stderr.readline()
        for name in cluster.shards:
            cluster.restart(name)
        if "gateway" in cluster.ended():
            cluster.restart("gateway")
        done = await commands.finish(recovering)
        assert done.status == 0, done
        await assert_counted(cluster)


async def test_shard_that_is_gone_for_good_is_left_out_on_an_operators_word_only(tmp_path: Path) -> None:
    async with Cluster(tmp_path, slots=8, spread=4, copies=2, lease_s=2) as cluster:
        await count(cluster)
        cluster.kill("s3")
        single(cluster.etcd).wipe()
        shutil.rmtree(cluster.data("s3"))
        known = ("--shards", "3", "--data", str(cluster.data("s1")))
        refused = await commands.tally(*arguments(cluster, *known, "--wait-s", "3"))
        assert refused.status == 1, refused
        assert "s3 has not registered" in refused.err
        assert "--without SHARD --accept-data-loss" in refused.err
        assert (await cluster.status())["recovering"]
        shown = await commands.tally(*arguments(cluster, *known, "--dry-run"))
        assert (shown.status, "ANSWERS" in shown.out) == (0, True), shown
        done = await commands.tally(*arguments(cluster, *known, "--without", "s3", "--accept-data-loss"))
        assert done.status == 0, done
        assert "recovered: 8 of 8 slots" in done.out
        await assert_counted(cluster)
