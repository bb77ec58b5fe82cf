"""The real input through a real cluster: every hour exact, whatever happens to shards and gateway meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.cluster import GATEWAY, Cluster
from tests.support.real_input import EVENTS, EVENTS_FILE, HOURS, truth, wrong_hours

_SHARE = re.compile(r"\(([0-9]+) %\)")


async def shares(process: asyncio.subprocess.Process) -> AsyncIterator[int]:
    """Give how many per cent are imported, each time that the command says so, until it ends."""
    assert process.stderr
    async for line in process.stderr:
        if found := _SHARE.search(line.decode()):
            yield int(found[1])


async def check_import(process: asyncio.subprocess.Process) -> None:
    """See that the command counted every event."""
    done = await commands.finish(process, within_s=200)
    print(done.out)  # noqa: T201 - the speed; shown with pytest --capture=no.
    assert done.status == 0, done.err
    assert done.out.startswith(f"{EVENTS:,} counted, 0 refused, 0 unknown")


async def check_hours(cluster: Cluster) -> None:
    """See that every hour is exact."""
    wrong = await wrong_hours(cluster.url)
    assert not wrong, f"{len(wrong)} of {HOURS} hours are wrong: {wrong[:5]}"


def test_the_truth_is_whole() -> None:
    assert len(truth()) == HOURS


@pytest.mark.timeout(280)
@pytest.mark.parametrize(("spread", "hours_together"), [(16, 24), pytest.param(1, 1, marks=pytest.mark.full)])
async def test_every_hour_of_the_real_input_comes_out_exact(tmp_path: Path, spread: int, hours_together: int) -> None:
    async with Cluster(tmp_path, spread=spread, hours_together=hours_together) as cluster:
        await check_import(await commands.begin("import", str(EVENTS_FILE), "--to", cluster.url))
        await check_hours(cluster)


@pytest.mark.timeout(280)
async def test_a_killed_and_a_frozen_shard_and_a_killed_gateway_change_no_number(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        process = await commands.begin("import", str(EVENTS_FILE), "--to", cluster.url)
        faults = iter(((20, kill_a_shard), (40, freeze_and_thaw), (60, kill_the_gateway)))
        due, fault = next(faults)
        async for share in shares(process):
            if share >= due:
                await fault(cluster)
                due, fault = next(faults, (101, fault))
        assert due == 101, "the import ended before all faults"
        await check_import(process)
        await check_hours(cluster)


async def kill_a_shard(cluster: Cluster) -> None:
    """Kill a shard with SIGKILL, and start it again after a moment without it."""
    cluster.kill("s1")
    await asyncio.sleep(0.5)
    cluster.restart("s1")


async def kill_the_gateway(cluster: Cluster) -> None:
    """Kill the gateway with all that is in doubt there, and start it again."""
    cluster.kill(GATEWAY)
    cluster.restart(GATEWAY)


async def freeze_and_thaw(cluster: Cluster) -> None:
    """Stop a shard for three seconds."""
    cluster.stop("s2")
    await asyncio.sleep(3.0)
    cluster.cont("s2")
