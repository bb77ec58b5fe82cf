"""Shards that are restarted under load: in order without a failed request, after a crash without a clone."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Final

from tests.integration.operations.load import show, under_load
from tests.integration.operations.status import rest
from tests.support.cluster import Cluster

AWAY_S: Final = 10.0


def joins(log: Path) -> Counter[str]:
    """Count how copies joined a shard: by ``catch_up`` or by ``clone``."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    told: Counter[str] = Counter()
    for line in lines:
        if line["event"] == "copies_joined":
            told[line["how"]] += line["slots"]
    return told


async def test_a_rolling_restart_fails_no_request(tmp_path: Path) -> None:
    async with Cluster(tmp_path, copies=3, lease_s=2, slots=32, spread=8) as cluster:
        await rest(cluster, shards=3, copies=3)
        async with under_load(cluster) as load:
            for name in cluster.shards:
                began = load.trace.now_s
                assert await asyncio.to_thread(cluster.terminate, name) == 0
                show(f"{name} asked to end at {began:.1f} s, ended at {load.trace.now_s:.1f} s")
                cluster.restart(name)
                await rest(cluster, shards=3, copies=3, even=False)
        load.check_no_request_failed()


async def test_a_shard_that_was_away_comes_back_without_a_clone(tmp_path: Path) -> None:
    async with Cluster(tmp_path, copies=3, lease_s=2, slots=32, spread=8) as cluster:
        await rest(cluster, shards=3, copies=3)
        log = tmp_path / "s2.log"
        before = joins(log)
        async with under_load(cluster) as load:
            show(f"killed at {load.trace.now_s:.1f} s")
            cluster.kill("s2")
            await asyncio.sleep(AWAY_S)
            cluster.restart("s2")
            show(f"restarted at {load.trace.now_s:.1f} s")
            found = await rest(cluster, shards=3, copies=3)
        came = joins(log) - before
        show(f"joined: {came}")
        assert came["clone"] == 0
        assert came["catch_up"] >= found["slots"]
