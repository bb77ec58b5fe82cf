"""A shard is drained, switched off and removed, and no request fails."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.integration.operations.load import show, under_load
from tests.integration.operations.status import check_fair, rest, run, summary
from tests.support.cluster import Cluster


@pytest.mark.parametrize("copies", [1, 3])
async def test_a_drained_shard_keeps_nothing_can_be_removed_and_no_request_fails(tmp_path: Path, copies: int) -> None:
    async with Cluster(tmp_path, shards=4, copies=copies, lease_s=2, slots=32, spread=8) as cluster:
        await rest(cluster, shards=4, copies=copies)
        async with under_load(cluster) as load:
            began = load.trace.now_s
            await run(cluster, "drain", "s4", "--wait")
            show(f"drained after {load.trace.now_s - began:.1f} s")
            found = await rest(cluster, shards=4, copies=copies)
            (drained,) = (shard for shard in found["shards"] if shard["id"] == "s4")
            assert [drained[name] for name in ("slots", "serving", "copies", "joining")] == [0, 0, 0, 0], summary(found)
            assert await asyncio.to_thread(cluster.terminate, "s4") == 0
            await run(cluster, "members", "remove", "s4")
            members = json.loads(await run(cluster, "members", "--output", "json"))["members"]
            assert [member["id"] for member in members] == ["s1", "s2", "s3"]
            found = await rest(cluster, shards=3, copies=copies)
        check_fair(found, copies)
        load.check_no_request_failed()
