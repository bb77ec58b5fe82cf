"""The ways that tests cut: a cut that is none would prove nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.support.proxy import PASS, REFUSES, SILENT, Line, Proxies, Proxy

SOON_S = 0.2  # What has not come by then is held.
WAIT_S = 5.0


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    with Proxies() as ways:
        yield ways


class Server:
    """Takes one connection after the other, and notes what it is told."""

    def __init__(self) -> None:
        self.told = b""
        self.ended = asyncio.Event()
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100_000):
                self.told += data
                writer.write(data.upper())
        except OSError:
            pass
        finally:
            self.ended.set()
            writer.close()


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.address = "127.0.0.1:{1}".format(*listening.sockets[0].getsockname())
    async with listening:
        yield server


async def connected(way: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = way.address.split(":")
    return await asyncio.open_connection(host, int(port))


async def said(reader: asyncio.StreamReader, within_s: float = WAIT_S) -> bytes:
    """Return what comes; b"" at the end, and b"-" if nothing comes in time."""
    try:
        async with asyncio.timeout(within_s):
            return await reader.read(100)
    except ConnectionResetError:
        return b""
    except TimeoutError:
        return b"-"


async def test_what_is_blocked_waits_and_comes_when_the_way_is_open_again(proxies: Proxies) -> None:
    async with served() as server:
        way = proxies.to(lambda: server.address)
        reader, writer = await connected(way)
        writer.write(b"a")
        assert await said(reader) == b"A"
        way.behave(SILENT)
        writer.write(b"b")
        assert await said(reader, SOON_S) == b"-"
        assert server.told == b"a"
        way.behave(PASS)
        assert await said(reader) == b"B"
        writer.close()


@pytest.mark.parametrize(("line", "told"), [(Line(to_client=False), b"ab"), (Line(to_server=False), b"a")])
async def test_only_one_direction_passes(proxies: Proxies, line: Line, told: bytes) -> None:
    async with served() as server:
        way = proxies.to(lambda: server.address)
        reader, writer = await connected(way)
        writer.write(b"a")
        assert await said(reader) == b"A"
        way.behave(line)
        writer.write(b"b")
        assert await said(reader, SOON_S) == b"-"
        assert server.told == told
        writer.close()


async def test_refused_is_who_connects_and_who_is_connected_loses_it(proxies: Proxies) -> None:
    async with served() as server:
        way = proxies.to(lambda: server.address)
        reader, writer = await connected(way)
        writer.write(b"a")
        assert await said(reader) == b"A"
        way.behave(REFUSES)
        assert await said(reader) == b""
        with pytest.raises(ConnectionRefusedError):
            await connected(way)
        way.behave(PASS)
        reader, again = await connected(way)
        again.write(b"c")
        assert await said(reader) == b"C"
        for one in (writer, again):
            one.close()


async def test_end_of_a_connection_is_not_seen_through_a_silent_way(proxies: Proxies) -> None:
    """So the other side keeps half a connection, until it finds out by itself."""
    async with served() as server:
        way = proxies.to(lambda: server.address)
        reader, writer = await connected(way)
        writer.write(b"a")
        assert await said(reader) == b"A"
        way.behave(SILENT)
        writer.transport.abort()
        await asyncio.sleep(SOON_S)
        assert not server.ended.is_set()
        way.behave(PASS)
        async with asyncio.timeout(WAIT_S):
            await server.ended.wait()


async def test_stranded_connection_is_silent_for_ever_and_a_new_one_is_not(proxies: Proxies) -> None:
    async with served() as server:
        way = proxies.to(lambda: server.address)
        reader, writer = await connected(way)
        writer.write(b"a")
        assert await said(reader) == b"A"
        way.strand()
        way.behave(PASS)
        writer.write(b"b")
        assert await said(reader, SOON_S) == b"-"
        reader, again = await connected(way)
        again.write(b"c")
        assert await said(reader) == b"C"
        for one in (writer, again):
            one.close()


async def test_everything_takes_longer_by_the_delay_of_each_direction(proxies: Proxies) -> None:
    async with served() as server:
        way = proxies.to(lambda: server.address)
        way.behave(Line(delay_s=0.1))
        reader, writer = await connected(way)
        begin = time.monotonic()
        writer.write(b"a")
        assert await said(reader) == b"A"
        assert time.monotonic() - begin >= 0.2
        writer.close()


async def test_no_more_passes_than_the_line_carries(proxies: Proxies) -> None:
    async with served() as server:
        way = proxies.to(lambda: server.address)
        way.behave(Line(bytes_per_s=100_000))
        _, writer = await connected(way)
        begin = time.monotonic()
        writer.write(bytes(50_000))
        async with asyncio.timeout(WAIT_S):
            while len(server.told) < 50_000:
                await asyncio.sleep(0.01)
        assert time.monotonic() - begin >= 0.4
        writer.close()
