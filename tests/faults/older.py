"""An older state of a shard's directory, and that state put back: as after a snapshot of the disk was restored."""

import asyncio
import shutil
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.waiting import until


def stands_still(pid: int) -> bool:
    """Whether no thread of a process runs any more: one that is in a write ends that first."""
    states = (status.read_text().rpartition(")")[2].split()[0] for status in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(state == "T" for state in states)


async def copied_while_frozen(cluster: Cluster, shard: str, to: Path) -> None:
    """Copy a shard's directory as it is at one moment, as a snapshot of the disk would."""
    cluster.stop(shard)
    try:
        await until(lambda: stands_still(cluster.pid(shard)))
        await asyncio.to_thread(shutil.copytree, cluster.data(shard), to)
    finally:
        cluster.cont(shard)


async def put_back(cluster: Cluster, shard: str, older: Path) -> None:
    """Put a copy in the place of the directory of a shard that was ended."""
    await asyncio.to_thread(shutil.rmtree, cluster.data(shard))
    await asyncio.to_thread(shutil.move, older, cluster.data(shard))
