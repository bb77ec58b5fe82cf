"""Shards that are added to a running cluster get their share, and no request fails."""

from pathlib import Path

import pytest

from tests.integration.operations.load import under_load
from tests.integration.operations.status import check_fair, rest
from tests.support.cluster import Cluster


@pytest.mark.parametrize("copies", [1, 3])
async def test_an_added_shard_gets_its_share_and_no_request_fails(tmp_path: Path, copies: int) -> None:
    async with Cluster(tmp_path, copies=copies, lease_s=2, slots=32, spread=8) as cluster:
        await rest(cluster, shards=3, copies=copies)
        async with under_load(cluster) as load:
            cluster.add("s4")
            found = await rest(cluster, shards=4, copies=copies)
        check_fair(found, copies)
        load.check_no_request_failed()


async def test_three_shards_added_at_once_get_their_shares_and_no_request_fails(tmp_path: Path) -> None:
    async with Cluster(tmp_path, copies=3, lease_s=2, slots=32, spread=8) as cluster:
        await rest(cluster, shards=3, copies=3)
        async with under_load(cluster) as load:
            for name in ("s4", "s5", "s6"):
                cluster.add(name)
            found = await rest(cluster, shards=6, copies=3)
        check_fair(found, 3)
        load.check_no_request_failed()
