"""Several gateways on one address: each serves, one that dies comes again, and all end together."""

import asyncio
import os
import re
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from gateway.workers import _STARTS_WITHIN_S
from tests.integration.gateway.test_process import NOWHERE, start
from tests.support.etcd import free_ports
from tests.support.raw_http import RawClient
from tests.support.waiting import until

WORKERS: Final = 3
ENDS_S: Final = 30.0
CONNECTIONS: Final = 60  # So many that none of the workers gets none.


def workers_of(process: Process) -> set[int]:
    """Return the process ids of those that it started."""
    return set(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def ports_in_a_row(count: int) -> int:
    """Return the first of so many free ports."""
    while True:
        (first,) = free_ports(1)
        with ExitStack() as taken, suppress(OSError):
            for port in range(first, first + count):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


async def told(process: Process, event: bytes, *, times: int) -> bytes:
    """Return what a process logged until it has told of an event so often."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(ENDS_S):
        while len(re.findall(event, said)) < times and (line := await process.stderr.readline()):
            said += line
    return said


def has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@asynccontextmanager
async def running(port: int, *more: str, host: str = "127.0.0.1", cwd: Path | None = None) -> AsyncIterator[Process]:
    """Run workers on a port; they are gone when the block ends."""
    address = f"{host}:{port}"
    process = await start("--etcd", NOWHERE, "--listen", address, "--workers", str(WORKERS), *more, cwd=cwd)
    assert process.stderr is not None
    try:
        await told(process, rb'"listening"', times=WORKERS)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def served(port: int) -> None:
    """Hold that whoever of them the kernel chooses answers."""
    for _ in range(CONNECTIONS):
        async with await RawClient.connect(port) as client:
            assert (await client.ask("GET", "/healthz")).status == 200


async def test_workers_share_an_address_and_end_together() -> None:
    (port,) = free_ports(1)
    async with running(port) as process:
        workers = workers_of(process)
        assert len(workers) == WORKERS
        await served(port)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), ENDS_S)
        assert process.returncode == 0
        assert all(map(has_ended, workers))


async def test_hangup_of_the_whole_group_ends_none_of_them() -> None:
    """So a terminal says that it is gone."""
    (port,) = free_ports(1)
    async with running(port) as process:
        workers = workers_of(process)
        for pid in (process.pid, *workers):
            os.kill(pid, signal.SIGHUP)
        await told(process, rb'"hangup_ignored"', times=WORKERS + 1)
        assert workers_of(process) == workers
        await served(port)


async def test_clients_that_keep_idle_connections_lock_nobody_out() -> None:
    (port,) = free_ports(1)
    async with running(port, "--connections", "4"), AsyncExitStack() as idle:
        for _ in range(CONNECTIONS):
            client = await idle.enter_async_context(await RawClient.connect(port))
            assert (await client.ask("GET", "/healthz")).status == 200


async def test_worker_that_dies_is_started_again_and_the_others_serve_on() -> None:
    (port,) = free_ports(1)
    async with running(port) as process:
        before = workers_of(process)
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: len(workers_of(process)) == WORKERS and workers_of(process) != before, within_s=ENDS_S)
        await until(lambda: has_ended(min(before)))
        await served(port)


async def test_workers_whose_whole_group_gets_the_signal_end_in_order() -> None:
    """So systemd ends a service: the supervisor passes on what they have heard already."""
    (port,) = free_ports(1)
    async with running(port) as process:
        for pid in (process.pid, *workers_of(process)):
            os.kill(pid, signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), ENDS_S)
        assert process.returncode == 0


async def test_worker_that_can_not_start_again_ends_none_of_the_others() -> None:
    port, metrics = free_ports(1)[0], ports_in_a_row(WORKERS)
    async with running(port, "--metrics", f"127.0.0.1:{metrics}") as process:
        await asyncio.sleep(_STARTS_WITHIN_S)  # From then on they count as started well.
        (last,) = (pid for pid in workers_of(process) if f"--worker-number\0{WORKERS - 1}" in command_of(pid))
        os.kill(last, signal.SIGKILL)
        await until(lambda: has_ended(last))
        with socket.create_server(("127.0.0.1", metrics + WORKERS - 1)):
            said = await told(process, rb'"worker_ended"', times=2)
            assert process.returncode is None, said
            await served(port)


async def test_address_that_somebody_has_is_refused_and_so_is_a_port_of_the_kernels_choice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("--etcd", NOWHERE, "--listen", f"127.0.0.1:{port}", "--workers", "2")
        _, complaint = await process.communicate()
    assert (process.returncode, b"in use" in complaint) == (1, True)
    process = await start("--etcd", NOWHERE, "--listen", "127.0.0.1:0", "--workers", "2")
    _, complaint = await process.communicate()
    assert (process.returncode, b"--workers" in complaint) == (1, True)


async def test_workers_share_an_address_of_ipv6_too() -> None:
    (port,) = free_ports(1)
    async with running(port, host="[::1]") as process:
        assert len(workers_of(process)) == WORKERS


async def test_metrics_without_a_port_for_each_worker_are_refused() -> None:
    process = await start(*("--etcd", NOWHERE, "--listen", "127.0.0.1:1", "--workers", "2", "--metrics", "[::1]:65535"))
    _, complaint = await process.communicate()
    assert (process.returncode, b"--metrics" in complaint) == (2, True)
    assert b"Traceback" not in complaint


@pytest.mark.parametrize(("arguments", "variables"), [(("--worker", "2"), {}), ((), {"TALLY_WORKER": "2"})])
async def test_slip_of_the_pen_makes_no_process_one_of_several(
    arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    """It would share its address with whoever listens there."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await start("--etcd", NOWHERE, "--listen", listen, *arguments, env=os.environ | variables)
        _, complaint = await process.communicate()
    assert process.returncode == (2 if arguments else 1)
    assert b"--workers" in complaint if arguments else b"in use" in complaint


async def test_workers_that_can_not_start_end_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = f"127.0.0.1:{taken.getsockname()[1]}"
        (port,) = free_ports(1)
        process = await start(
            *("--etcd", NOWHERE, "--listen", f"127.0.0.1:{port}", "--workers", "2", "--metrics", metrics)
        )
        await asyncio.wait_for(process.communicate(), ENDS_S)
    assert process.returncode == 1


async def test_code_in_the_working_directory_is_not_run(tmp_path: Path) -> None:
    for name in ("queue.py", "gateway.py"):
        (tmp_path / name).write_text("raise SystemExit(7)")
    (port,) = free_ports(1)
    async with running(port, cwd=tmp_path) as process:
        assert len(workers_of(process)) == WORKERS
