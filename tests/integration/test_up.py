"""``tally up`` as a newcomer uses it: processes come, say how it goes, and are all gone at the end."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from shard.storage.directory import DATABASE
from shard.storage.store import Store
from tests.support import commands
from tests.support.broken_logs import Broken, BrokenLog
from tests.support.etcd import EtcdServer, free_ports
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)


class Up:
    """One ``tally up`` in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, http: str) -> None:
        self.process = process
        self.url = f"http://{http}"
        self.said = ""

    async def until(self, what: str, *, within_s: float = 60.0) -> str:
        """Read stdout until a line has ``what`` in it; return all that was said so far."""
        assert self.process.stdout
        async with asyncio.timeout(within_s):
            while what not in self.said:
                line = await self.process.stdout.readline()
                assert line, f"it ended: {self.said} {(await commands.finish(self.process)).err}"
                self.said += line.decode()
        return self.said

    def pid_of(self, name: str) -> int:
        """Return the process id that the table names."""
        found = re.search(rf"^{name} +([0-9]+) ", self.said, re.MULTILINE)
        assert found, self.said
        return int(found[1])

    async def end(self, what: signal.Signals = signal.SIGTERM) -> commands.Finished:
        """Ask it to end, and see that it leaves nobody behind."""
        self.process.send_signal(what)
        done = await commands.finish(self.process)
        assert not group_lives(self.process.pid), "it left a process behind"
        return done


def group_lives(group: int) -> bool:
    """Say whether any process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Ups:
    """Starts ``tally up`` on free ports; whatever a test leaves is killed."""

    def __init__(self, data: Path, cwd: Path | None = None) -> None:
        self.data = data
        self.cwd = cwd
        self.started: list[Up] = []

    async def start(self, *arguments: str) -> Up:
        http = f"127.0.0.1:{free_ports(1)[0]}"
        process = await commands.begin(
            *("up", "--http", http, "--data", str(self.data)), *arguments, cwd=self.cwd, new_group=True
        )
        self.started.append(Up(process, http))
        return self.started[-1]

    async def ready(self, *arguments: str) -> Up:
        up = await self.start(*arguments)
        await up.until("ready after")
        return up

    async def refused(self, *arguments: str, status: int = 1) -> str:
        """Start one that must not start; return its complaint."""
        up = await self.start(*arguments)
        done = await commands.finish(up.process)
        assert done.status == status, done.err
        assert not group_lives(up.process.pid), "it left a process behind"
        assert "Traceback" not in done.err
        return done.err.splitlines()[-1]

    async def kill_all(self) -> None:
        for up in self.started:
            if group_lives(up.process.pid):
                os.killpg(up.process.pid, signal.SIGKILL)
            await up.process.communicate()


@pytest.fixture
async def ups(tmp_path: Path) -> AsyncIterator[Ups]:
    all_of_them = Ups(tmp_path / "data")
    yield all_of_them
    await all_of_them.kill_all()


async def record_and_read(url: str, times: int) -> str:
    now = int(time.time() * 1000)
    async with aiohttp.ClientSession() as session:
        for _ in range(times):
            async with session.post(f"{url}/analytics?timestamp={now}&user=ann&click") as answer:
                assert answer.status == 204
        async with session.get(f"{url}/analytics?timestamp={now}") as answer:
            return await answer.text()


async def test_it_counts_says_what_runs_and_goes_on_with_its_data(ups: Ups) -> None:
    up = await ups.ready("--shards", "2", "--hours-together", "8784")
    for name in ("etcd", "s1", "s2", "gateway"):
        os.kill(up.pid_of(name), 0)
        assert f"logs/{name}.log" in up.said
    assert up.said.count("curl ") == 2
    assert await record_and_read(up.url, 2) == "unique_users,1\nclicks,2\nimpressions,0\n"

    status = await commands.tally("status", "--output", "json", cwd=ups.data.parent)
    assert status.status == 0, status.err
    assert [(shard["id"], shard["alive"]) for shard in json.loads(status.out)["shards"]] == [("s1", True), ("s2", True)]

    done = await up.end()
    assert done.status == 0
    assert "ending gateway, s1, s2, etcd" in done.err

    again = await ups.ready("--shards", "2", "--hours-together", "8784")
    assert "is there already" in again.said
    # The hour may have changed meanwhile; the sum has not.
    assert (await record_and_read(again.url, 1)) in {
        "unique_users,1\nclicks,3\nimpressions,0\n",
        "unique_users,1\nclicks,1\nimpressions,0\n",
    }
    assert (await again.end(signal.SIGINT)).status == 0


async def test_old_data_is_not_used_with_other_settings(ups: Ups) -> None:
    up = await ups.ready("--shards", "2")
    assert "another `tally up` runs on it" in await ups.refused("--shards", "2")
    await up.end()
    assert "slots is 256, not 64" in await ups.refused("--shards", "2", "--slots", "64")
    assert "--shards is 1; allowed: 2 or more" in await ups.refused("--shards", "1", status=2)
    before = {path: path.stat().st_mtime_ns for path in ups.data.rglob("*") if path.name != "lock"}
    assert "--cluster is 'other'" in await ups.refused("--cluster", "other", status=2)
    assert {path: path.stat().st_mtime_ns for path in ups.data.rglob("*") if path.name != "lock"} == before

    more = await ups.ready("--shards", "3")
    await more.end()
    again = await ups.ready()
    assert {"s1", "s2", "s3"} < set(re.findall("^[a-z0-9]+", again.said, re.MULTILINE))
    await again.end()


async def test_when_one_dies_it_says_which_and_why_and_the_others_go_on(ups: Ups) -> None:
    up = await ups.ready()
    os.kill(up.pid_of("s2"), signal.SIGKILL)
    assert up.process.stderr
    async with asyncio.timeout(10):
        said = [(await up.process.stderr.readline()).decode() for _ in range(3)]
    assert said[0] == "s2 has ended: killed by SIGKILL. The others go on.\n"
    assert "s2.log" in said[1]
    assert re.search(r"start it again with: .*-m shard .*--id s2 ", said[2])
    for name in ("etcd", "s1", "s3", "gateway"):
        os.kill(up.pid_of(name), 0)

    status = await commands.tally("status", "--output", "json", cwd=ups.data.parent)
    assert status.status == 1
    shards = {shard["id"]: shard for shard in json.loads(status.out)["shards"]}
    assert shards["s2"]["alive"], "its lease outlives it"
    assert shards["s2"]["slots"] > shards["s2"]["serving"] == 0
    assert shards["s1"]["slots"] == shards["s1"]["serving"] > 0
    assert (await up.end()).status == 0


async def test_killed_itself_it_takes_the_others_with_it(ups: Ups) -> None:
    up = await ups.ready("--shards", "1")
    up.process.kill()
    await up.process.wait()
    async with asyncio.timeout(30):
        while group_lives(up.process.pid):
            await asyncio.sleep(0.05)


async def test_a_second_ctrl_c_kills_a_process_that_does_not_end(ups: Ups) -> None:
    up = await ups.ready("--shards", "1")
    os.kill(up.pid_of("s1"), signal.SIGSTOP)
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.stderr
    assert b"SIGINT received" in await up.process.stderr.readline()
    await up.end(signal.SIGINT)
    assert time.monotonic() - began < 8


async def test_interrupted_while_it_starts_it_leaves_nobody(ups: Ups) -> None:
    up = await ups.start()
    await up.until("cluster 'default' made")
    assert (await up.end()).status == 0


@pytest.mark.parametrize("how", [Broken.GONE, Broken.UNREAD])
async def test_output_that_nobody_reads_stops_neither_the_cluster_nor_its_end(ups: Ups, how: Broken) -> None:
    ups.data.mkdir()
    log, http = BrokenLog(ups.data.parent / "fifo", how), f"127.0.0.1:{free_ports(1)[0]}"
    with log.path.open("wb", buffering=0) as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tally", "up", "--shards", "1", "--http", http, "--data", str(ups.data)),
            stdout=output,
            stderr=output,
            env=commands.environment(),
            process_group=0,
        )
    ups.started.append(Up(process, http))
    log.lose_reader()
    await until(lambda: is_ready(f"http://{http}"), within_s=30)
    os.kill(pid_in_group(process.pid, b"gateway"), signal.SIGKILL)  # It has something to tell.
    await until(lambda: pid_in_group(process.pid, b"gateway") == 0)
    assert pid_in_group(process.pid, b"shard") != 0
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert not group_lives(process.pid)
    log.close()


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def pid_in_group(group: int, module: bytes) -> int:
    """Return the process of a group that runs ``module``; 0 if there is none."""
    for found in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(found.name)) == group and module in (found / "cmdline").read_bytes().split(b"\0"):
                return int(found.name)
        except (ProcessLookupError, FileNotFoundError):
            continue
    return 0


async def test_an_address_in_use_is_refused_before_anything_starts(ups: Ups) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"can't listen on {address}: it is in use" in await ups.refused("--http", address)
    assert not (ups.data / "logs").exists()


async def test_more_copies_than_there_can_be_are_refused(ups: Ups) -> None:
    assert "copies is 6; allowed: 1..5" in await ups.refused("--copies", "6", status=2)
    assert not ups.data.exists()


async def test_a_directory_of_something_else_is_refused_and_left_alone(ups: Ups) -> None:
    ups.data.mkdir()
    ups.data.joinpath("thesis.txt").touch()
    assert "it is not empty, and not of `tally up`" in await ups.refused()
    assert [path.name for path in ups.data.iterdir()] == ["thesis.txt"]


async def test_an_empty_name_of_a_directory_is_refused(ups: Ups) -> None:
    assert "an empty value names no directory" in await ups.refused("--data", "", status=2)


async def test_a_start_that_was_cut_short_can_be_repeated(ups: Ups) -> None:
    up = await ups.start("--shards", "1")
    await until((ups.data / "etcd").exists, within_s=30)
    up.process.kill()
    await up.process.wait()
    await until(lambda: not group_lives(up.process.pid), within_s=30)
    assert (await (await ups.ready("--shards", "1")).end()).status == 0


async def test_data_that_another_process_holds_says_what_to_do(ups: Ups) -> None:
    await (await ups.ready("--shards", "1")).end()
    store = Store(ups.data / "s1" / DATABASE)
    try:
        assert "started by hand, end it, then run again" in await ups.refused()
    finally:
        store.close()


async def test_a_damaged_etcd_is_told_by_the_line_that_says_why(ups: Ups) -> None:
    await (await ups.ready("--shards", "1")).end()
    (ups.data / "etcd" / "member" / "snap" / "db").write_bytes(b"no database" * 1000)
    said = await ups.refused()
    assert said.startswith("Error: etcd did not start: ")
    assert "goroutine" not in said
    assert re.search('panic|"(error|fatal)"', said), said


async def test_a_data_directory_that_can_not_be_is_refused(ups: Ups) -> None:
    ups.data.parent.joinpath("file").touch()
    ups.data = ups.data.parent / "file" / "data"
    assert "--data is" in await ups.refused(status=2)


async def test_an_etcd_that_does_not_answer_is_refused(ups: Ups) -> None:
    assert "etcd does not answer at 127.0.0.1:1" in await ups.refused("--etcd", "127.0.0.1:1")


async def test_with_an_etcd_of_the_operator_it_starts_none(ups: Ups) -> None:
    with EtcdServer() as etcd:
        up = await ups.ready("--shards", "1", "--etcd", etcd.endpoint)
        assert not re.search("^etcd", up.said, re.MULTILINE)
        assert (await record_and_read(up.url, 1)).startswith("unique_users,1\n")
        assert (await up.end()).status == 0
        assert "--etcd must be given" in await ups.refused("--shards", "1", status=2)

        ups.data = ups.data.parent / "others"
        said = await ups.refused("--shards", "2", "--etcd", etcd.endpoint)
        assert "has shards whose data is not in" in said
        assert "s1; choose another --cluster" in said
        assert not (ups.data / "tally-up.json").exists()


async def test_code_in_the_working_directory_is_not_run(ups: Ups, tmp_path: Path) -> None:
    ups.cwd = tmp_path / "here"
    (ups.cwd / "shard").mkdir(parents=True)
    for name in ("queue.py", "gateway.py", "shard/__init__.py"):
        (ups.cwd / name).write_text("raise SystemExit(7)")
    up = await ups.ready("--shards", "1")
    assert (await up.end()).status == 0


async def test_a_port_that_is_taken_after_it_was_chosen_is_chosen_again(ups: Ups) -> None:
    await (await ups.ready("--shards", "1")).end()
    port = json.loads((ups.data / "tally-up.json").read_text())["ports"]["s1"]
    up = await ups.start("--shards", "1")
    await up.until("is there already")  # The ports are chosen, and the shard is about to start.
    with socket.create_server(("127.0.0.1", port)):
        await up.until("ready after")
        assert (await record_and_read(up.url, 1)).startswith("unique_users,1\n")
    assert (await up.end()).status == 0
    assert json.loads((ups.data / "tally-up.json").read_text())["ports"]["s1"] != port
