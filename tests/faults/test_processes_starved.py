"""Processes that get no more file descriptors, or no more memory: they wait or end, and never tell a wrong number.

Who ends is started again, without the limit.
"""

import asyncio
import re
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import LEASE_S, check, controller_of, new_seed
from tests.support.cluster import GATEWAY, Cluster
from tests.support.supervised import supervised
from tests.support.waiting import until

STARVED_S: Final = 6.0  # Three leases.
SPARE_FILES: Final = 4
CONNECTIONS: Final = 100
MANY_CONNECTIONS: Final = 4000  # Of a gateway with nothing on them: 10 KiB or more each.
CONNECT_S: Final = 2.0
SHARD: Final = "one shard"
FAILS_WITHIN_S: Final = 30.0
# As Python, C++ and Rust say it; a thread needs memory for its stack.
NO_MEMORY: Final = re.compile(rb"MemoryError|Cannot allocate memory|bad_alloc|memory allocation of|start new thread")


@asynccontextmanager
async def crowd(cluster: Cluster, name: str, connections: int = CONNECTIONS) -> AsyncIterator[None]:
    """Connect to a process again and again, and hold what connections it takes."""
    host, port = cluster.address(name).split(":")
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> None:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)

    await asyncio.gather(*(connect() for _ in range(connections)), return_exceptions=True)
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def limited(cluster: Cluster, name: str, what: int, to: int) -> AsyncIterator[None]:
    """Let a process have no more than this for a while; it may end meanwhile, and another one take its place."""
    pid = cluster.pid(name)
    before = resource.prlimit(pid, what)
    hard = before[1]
    resource.prlimit(pid, what, (to if hard == resource.RLIM_INFINITY else min(to, hard), hard))  # "Infinity" is -1.
    try:
        yield
    finally:
        if cluster.pid(name) == pid:
            resource.prlimit(pid, what, before)


def files_of(pid: int) -> int:
    """Return below which number all descriptors of a process are."""
    return 1 + max(int(one.name) for one in (Path("/proc") / str(pid) / "fd").iterdir())


def memory_of(pid: int) -> int:
    """Return how many bytes a process can write to; of addresses it has far more, set aside by malloc for later."""
    (line,) = (
        line for line in (Path("/proc") / str(pid) / "status").read_text().splitlines() if line.startswith("VmData:")
    )
    return int(line.split()[1]) * 1024


async def process_of(measurement: Measurement, role: str) -> str:
    return GATEWAY if role == GATEWAY else await controller_of(measurement)


@pytest.mark.parametrize("role", [pytest.param(GATEWAY, marks=pytest.mark.full), SHARD])
async def test_process_without_file_descriptors_loses_nothing_and_comes_back_by_itself(
    tmp_path: Path, rows: list[Row], role: str
) -> None:
    """Of a shard: nobody can connect to it, and a gateway that is started then has to."""

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        victim = await process_of(measurement, role)
        pid = cluster.pid(victim)
        async with supervised(cluster) as ends:
            measurement.begins(f"no descriptors for {victim}")
            most = files_of(pid) + SPARE_FILES
            async with limited(cluster, victim, resource.RLIMIT_NOFILE, most), crowd(cluster, victim):
                if victim != GATEWAY:
                    cluster.kill(GATEWAY)
                await asyncio.sleep(STARVED_S)
                assert any(end.name == victim for end in ends) or files_of(pid) >= most - 1, "it had enough"
            await measurement.is_back()
            print(f"ended and started again: {ends}")  # noqa: T201
        await cluster.wait_ready()

    row = await measured(tmp_path, strike, fault=f"no file descriptors: {role}", lease_s=LEASE_S, seed=new_seed())
    check(row, rows)


@pytest.mark.full
@pytest.mark.parametrize("role", [GATEWAY, SHARD])
async def test_process_without_memory_ends_or_goes_on_and_loses_nothing(
    tmp_path: Path, rows: list[Row], role: str
) -> None:
    """It is held to what it has while a crowd comes, so sooner or later an allocation fails; mostly it dies of that."""

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        victim = await process_of(measurement, role)
        log = tmp_path / f"{victim}.log"
        before = log.stat().st_size

        def failed() -> bool:
            if any(end.name == victim for end in ends):
                return True
            with log.open("rb") as said:
                said.seek(before)
                return bool(NO_MEMORY.search(said.read()))

        async with supervised(cluster) as ends:
            measurement.begins(f"no memory for {victim}")
            most = memory_of(cluster.pid(victim))
            many = MANY_CONNECTIONS if victim == GATEWAY else CONNECTIONS
            async with limited(cluster, victim, resource.RLIMIT_DATA, most), crowd(cluster, victim, many):
                await until(failed, within_s=FAILS_WITHIN_S)
                await asyncio.sleep(STARVED_S)
            await measurement.is_back()
            print(f"ended and started again: {ends}")  # noqa: T201
            assert {end.name for end in ends} <= {victim}
        await cluster.wait_ready()

    row = await measured(tmp_path, strike, fault=f"no memory: {role}", lease_s=LEASE_S, seed=new_seed())
    check(row, rows)
