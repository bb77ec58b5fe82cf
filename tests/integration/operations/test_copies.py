"""The number of copies is changed on a running cluster, and no request fails."""

from pathlib import Path

from tests.integration.operations.load import show, under_load
from tests.integration.operations.status import check_fair, rest, run
from tests.support.cluster import Cluster


async def test_more_and_fewer_copies_fail_no_request(tmp_path: Path) -> None:
    async with Cluster(tmp_path, copies=1, lease_s=2, slots=32, spread=8) as cluster:
        await rest(cluster, shards=3, copies=1)
        async with under_load(cluster) as load:
            for copies in (3, 1):
                show(f"{copies} copies wanted at {load.trace.now_s:.1f} s")
                await run(cluster, "config", "set", "copies", str(copies))
                check_fair(await rest(cluster, shards=3, copies=copies), copies)
        load.check_no_request_failed()
