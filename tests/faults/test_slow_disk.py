"""A shard whose flushes take seconds blames nobody else for it, also when its disk has lost something."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.older import copied_while_frozen, put_back
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import LEASE_S, OUTLASTS_A_START_S, check, logged, map_of, new_seed
from tests.support.cluster import Cluster
from tests.support.faulty_disk import FaultyDisk
from tests.support.proxy import Proxies
from tests.support.waiting import until
from tests.support.wires import Wires

SLOW: Final = "s2"
KILLED: Final = "s1"
SLOW_BEFORE_S: Final = 2.0
DEAD_S: Final = 4.0  # Longer than the lease.
SLOW_AFTER_S: Final = 6.0
SLOW_AFTER_FULL_S: Final = 30.0
LOOK_S: Final = 0.1
ALONE_MAX: Final = 1  # Of 32 slots; tests share their machine, and a healthy shard may be silent for once.
LOAD_GOES_ON_S: Final = 4.0
SLOW_AND_OLD_S: Final = 10.0
STARTS_S: Final = 15.0
CUT_S: Final = 15.0  # Less than the controller waits for who gives it no answer.
SERVES_AGAIN_S: Final = 12.0  # A start, 2 s of silence, a look of up to 2 s, the map, and what waited; less than CUT_S.


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    with Proxies() as ways:
        yield ways


@contextlib.asynccontextmanager
async def slots_alone_on(cluster: Cluster, shard: str) -> AsyncIterator[Counter[int]]:
    """Look again and again of how many slots only ``shard`` has a copy in sync; the counts are keys."""
    seen: Counter[int] = Counter()

    async def look() -> None:
        while True:
            alone = sum(set(row.in_sync) == {shard} for row in (await map_of(cluster)).rows)
            seen[alone] += 1
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield seen
        assert not looking.done()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@pytest.mark.parametrize(
    ("ms", "after_s"),
    [
        (2_500, SLOW_AFTER_S),
        pytest.param(1_500, SLOW_AFTER_FULL_S, marks=pytest.mark.full),
        pytest.param(2_500, SLOW_AFTER_FULL_S, marks=pytest.mark.full),
        pytest.param(4_000, SLOW_AFTER_FULL_S, marks=pytest.mark.full),
    ],
)
async def test_shard_with_a_slow_disk_removes_no_healthy_copy_while_another_restarts(
    tmp_path: Path, rows: list[Row], ms: int, after_s: float
) -> None:
    """It ends as the only one in sync of no slot: what it has is the least that one would trust."""
    disk = FaultyDisk.build(tmp_path / "disk")

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        measurement.begins(f"each fsync of {SLOW} takes {ms} ms, and {KILLED} is killed and started again")
        async with slots_alone_on(cluster, SLOW) as alone:
            disk.slow(ms)
            await asyncio.sleep(SLOW_BEFORE_S)
            cluster.kill(KILLED)
            await asyncio.sleep(DEAD_S)
            cluster.restart(KILLED)
            await asyncio.sleep(after_s)
            disk.slow(0)
            await measurement.is_back()
        print(f"slots only on {SLOW}, in so many looks: {dict(alone)}")  # noqa: T201
        assert max(alone) <= ALONE_MAX

    row = await measured(
        tmp_path,
        strike,
        fault=f"fsync takes {ms} ms, another restarts",
        lease_s=LEASE_S,
        seed=new_seed(),
        env={SLOW: disk.env},
    )
    check(row, rows)


@pytest.mark.parametrize(
    ("copies", "ms"),
    [
        (3, 2_500),
        pytest.param(2, 2_500, marks=pytest.mark.full),
        pytest.param(3, 1_000, marks=pytest.mark.full),
        pytest.param(2, 1_000, marks=pytest.mark.full),
        pytest.param(3, 4_000, marks=pytest.mark.full),
        pytest.param(2, 4_000, marks=pytest.mark.full),
    ],
)
async def test_older_directory_on_a_slow_disk_removes_nobody_who_has_what_it_lost(
    tmp_path: Path, rows: list[Row], copies: int, ms: int
) -> None:
    """It is primary still, hears the others late, and must not go on alone with what is old."""
    disk = FaultyDisk.build(tmp_path / "disk")

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        older = tmp_path / "older"
        await copied_while_frozen(cluster, SLOW, older)
        await asyncio.sleep(LOAD_GOES_ON_S)
        await measurement.is_back()  # What only the victim has, if others are out of its sets, would be lost indeed.
        measurement.begins(f"an older state of {SLOW} is put back, and each of its fsyncs takes {ms} ms")
        cluster.kill(SLOW)
        await put_back(cluster, SLOW, older)
        log = tmp_path / f"{SLOW}.log"
        adopted = log.read_text().count('"map_adopted"')
        cluster.restart(SLOW)
        await until(lambda: log.read_text().count('"map_adopted"') > adopted, within_s=STARTS_S)
        disk.slow(ms)
        await asyncio.sleep(SLOW_AND_OLD_S)
        disk.slow(0)
        await measurement.is_back()
        assert {"copy_renounced", "copies_joined"} <= logged(tmp_path, SLOW)

    row = await measured(
        tmp_path,
        strike,
        fault=f"older directory, fsync takes {ms} ms; {copies} copies",
        lease_s=OUTLASTS_A_START_S,
        seed=new_seed(),
        env={SLOW: disk.env},
        copies=copies,
    )
    check(row, rows)


@pytest.mark.parametrize("copies", [3, pytest.param(2, marks=pytest.mark.full)])
async def test_primary_that_restarts_while_cut_off_from_one_live_member_serves_again(
    tmp_path: Path, rows: list[Row], proxies: Proxies, copies: int
) -> None:
    """A third copy may have told it that nothing is lost; of two, the controller looks at the other.

    With two copies the slots that these two keep take no writes meanwhile: they have fewer than ``min_copies``.
    """
    seed, wired = new_seed(), []

    def lay(cluster: Cluster) -> None:
        wired.append(Wires(proxies, cluster))

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        one, other = random.Random(seed).sample(cluster.shards, 2)
        measurement.begins(f"{one} and {other} are cut from each other, and {one} is killed and started again")
        wired[0].cut(one, other)
        cluster.kill(one)
        cluster.restart(one)
        await asyncio.sleep(CUT_S)
        assert (await cluster.status())["all_serve"]
        wired[0].heal()
        await measurement.is_back()

    row = await measured(
        tmp_path,
        strike,
        fault=f"primary restarts while cut from one; {copies} copies",
        lease_s=OUTLASTS_A_START_S,
        seed=seed,
        prepare=lay,
        copies=copies,
    )
    check(row, rows)
    assert row.reads_s <= SERVES_AGAIN_S
    assert copies == 2 or row.writes_s <= SERVES_AGAIN_S
