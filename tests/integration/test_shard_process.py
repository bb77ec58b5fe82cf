"""The command ``tally-shard``: what it says when it can't start, in one line."""

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.etcd import EtcdServer, free_ports

NOWHERE = "127.0.0.1:1"  # No etcd listens there.


@pytest.fixture(scope="module")
def etcd() -> Iterator[str]:
    with EtcdServer() as server:
        yield server.endpoint


async def run(module: str, *arguments: str) -> commands.Finished:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=commands.environment(),
    )
    return await commands.finish(process)


def last_line(done: commands.Finished) -> str:
    """Return the complaint; before it there may be lines of the log, and nothing else."""
    assert "Traceback" not in done.err
    *log, complaint = done.err.splitlines()
    assert all(line.startswith("{") for line in log), done.err
    return complaint


@pytest.mark.parametrize("module", ["shard", "gateway"])
async def test_version_and_help(module: str) -> None:
    done = await run(module, "--version")
    assert (done.status, done.out.split(",")[0]) == (0, f"tally-{module}")
    done = await run(module, "-h")
    assert done.status == 0
    assert "TALLY_LISTEN" in done.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--lease-s", "1"], "--lease-s (TALLY_LEASE_S) is 1"),
        (["--listen", "0.0.0.0:80"], "--advertise (TALLY_ADVERTISE) must be given"),
        (["--cluster", "/"], "cluster is '/'"),
    ],
)
async def test_wrong_setting_is_named(arguments: list[str], named: str) -> None:
    done = await run("shard", "--etcd", NOWHERE, *arguments)
    assert done.status == 2
    assert named in last_line(done)


async def test_data_that_is_a_file_is_refused(etcd: str, tmp_path: Path) -> None:
    await commands.tally("create", "--etcd", etcd)
    file = tmp_path / "file"
    file.touch()
    for data in (file, file / "below"):
        done = await run("shard", "--etcd", etcd, "--data", str(data), "--listen", f"127.0.0.1:{free_ports(1)[0]}")
        assert done.status == 1
        assert last_line(done).startswith(f"tally-shard: refusing the data directory {data}: it can't be ")


async def test_taken_address_is_one_clear_line(etcd: str, tmp_path: Path) -> None:
    await commands.tally("create", "--etcd", etcd)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = await run("shard", "--etcd", etcd, "--data", str(tmp_path / "s1"), "--listen", listen)
        nobody = await run("shard", "--etcd", etcd, "--data", str(tmp_path / "s1"), "--listen", "192.0.2.1:9101")
    assert (done.status, nobody.status) == (1, 1)
    assert last_line(done) == (
        f"tally-shard: can't listen on {listen}: it is in use; end what listens there, "
        "or choose another --listen (TALLY_LISTEN)"
    )
    assert last_line(nobody) == (
        "tally-shard: can't listen on 192.0.2.1:9101: Cannot assign requested address; "
        "choose another --listen (TALLY_LISTEN)"
    )


FATAL = """
from shard import __main__, node
from tally.errors import DirectoryCopied, StoreFailed

async def run(settings, stop):
    raise ExceptionGroup("tasks", [DirectoryCopied("s1"), ExceptionGroup("tasks", [StoreFailed("no room")])])

node.run = run
__main__.main()
"""


async def test_fatal_errors_of_its_tasks_are_a_line_each_and_no_traceback() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FATAL, "--etcd", NOWHERE),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=commands.environment(),
    )
    done = await commands.finish(process)
    assert done.status == 1
    assert done.err == (
        "tally-shard: another process registered as shard s1: its data directory was copied, and is for one server "
        "only; end the other process, or start this one with an empty --data (TALLY_DATA) and another --id (TALLY_ID)\n"
        "tally-shard: the store failed: no room\n"
    )
