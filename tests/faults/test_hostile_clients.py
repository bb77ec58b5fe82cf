"""Thousands of connections that send half a request, or never read: they cost little, and others are served."""

import asyncio
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.http_door import GOOD, POST, TIMESTAMP
from tests.support.raw_http import HOST, RawClient

MANY: Final = 10_000
FEW: Final = 1_000
MIB_MAX: Final = 300  # Above the same number of idle connections, for the many; the share of it for the few.
SERVED_WITHIN_S: Final = 5.0
HEADER_TIMEOUT_S: Final = 600.0  # None of them is saved by a time-out.
SPARE: Final = 200

LARGE_HEAD: Final = POST + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 7900) for number in range(4))
READ: Final = b"GET /analytics?" + TIMESTAMP.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
UNKNOWN: Final = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"

HOSTILE: Final = {
    "half a head": LARGE_HEAD,
    "half a body": LARGE_HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 999,
    "a chunk extension without end": LARGE_HEAD + CHUNKED + b"1;" + b"x" * 1000,
    "a trailer without end": LARGE_HEAD + CHUNKED + b"0\r\n" + b"X: y\r\n" * 300 + b"X: " + b"y" * 1000,
    "answers never read": UNKNOWN * 2000,
    "requests behind one that waits": READ + LARGE_HEAD + b"\r\n" + UNKNOWN * 2000,
}


class Cost(NamedTuple):
    """What a crowd cost: memory in MiB above the idle one, and how long another client waited at most."""

    mib: float
    waited_s: float


@pytest.mark.full
@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.timeout(600)
async def test_ten_thousand_hostile_connections_cost_little_and_others_are_served(sent: bytes) -> None:
    cost = await cost_of(sent, MANY)
    print(f"{cost.mib:.0f} MiB more than idle ones, others waited {cost.waited_s:.2f} s")  # noqa: T201
    assert cost.mib < MIB_MAX
    assert cost.waited_s < SERVED_WITHIN_S


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
async def test_thousand_hostile_connections_cost_little_and_others_are_served(sent: bytes) -> None:
    cost = await cost_of(sent, FEW)
    assert cost.mib < MIB_MAX * FEW / MANY + 10
    assert cost.waited_s < SERVED_WITHIN_S


async def cost_of(sent: bytes, count: int) -> Cost:
    """Return what so many connections that send this cost a server, beside as many that send nothing."""
    async with door(count + SPARE) as (pid, port):
        with crowd(port, count, b""):
            await waited_s(port)
            idle_mib = resident_mib(pid)
    async with door(count + SPARE) as (pid, port):
        most_mib = longest_s = 0.0
        with crowd(port, count, sent) as flood:
            for _ in flood:  # Some of them after the other, and all of them again and again.
                longest_s = max(longest_s, await waited_s(port))
                most_mib = max(most_mib, resident_mib(pid))
    return Cost(most_mib - idle_mib, longest_s)


@contextmanager
def crowd(port: int, count: int, sent: bytes) -> Iterator[Iterator[None]]:
    """Connect so often; gives what sends on, as far as it is taken, a step at a time."""
    raise_own_limit(count)
    clients: list[socket.socket] = []
    try:
        for number in range(count):
            client = socket.socket()
            clients.append(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.bind((f"127.0.1.{1 + number % 200}", 0))
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
        yield send(clients, sent)
    finally:
        for client in clients:
            client.close()


def send(clients: list[socket.socket], sent: bytes) -> Iterator[None]:
    at = dict.fromkeys(clients, 0)
    for _ in range(3):
        for number, client in enumerate(clients):
            try:
                while at[client] < len(sent):
                    at[client] += client.send(sent[at[client] :])
            except BlockingIOError:
                pass
            except ConnectionError:
                at[client] = len(sent)  # It was turned away.
            if number % 250 == 0:
                yield
        yield


@asynccontextmanager
async def door(connections: int) -> AsyncIterator[tuple[int, int]]:
    """Run the door in a process of its own; gives its process id and its port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.support.door_process", str(HEADER_TIMEOUT_S), str(connections)),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def waited_s(port: int) -> float:
    """Return how long a usual client waits for its answer."""
    began = time.monotonic()
    async with await RawClient.connect(port) as client:
        assert (await client.ask("POST", GOOD)).status == 204
    return time.monotonic() - began


def resident_mib(pid: int) -> float:
    """Return the memory of a process that is not swapped out or shared with nobody."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def raise_own_limit(count: int) -> None:
    """Let this process open so many sockets, or leave the test out."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + SPARE:
        pytest.skip(f"this machine lets a process open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
