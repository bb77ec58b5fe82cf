"""Clients that send in pieces, ahead of the answers, slowly, or not at all."""

import asyncio
import gc

import pytest

from gateway.app import App
from gateway.protocol import Connection
from tests.support.http_door import GOOD, HOUR, POST, TIMEOUT_S, TIMESTAMP, serving
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import HOST, RawClient
from tests.support.waiting import until


async def test_request_may_come_in_any_pieces(client: RawClient, backend: MemoryBackend) -> None:
    raw = POST + b"\r\n"
    for cut in range(1, len(raw), 7):
        await client.send(raw[:cut], raw[cut:])
        assert (await client.answer()).status == 204
    await client.send(*(raw[at : at + 1] for at in range(len(raw))))
    assert (await client.answer()).status == 204
    assert backend.users[HOUR] == {b"ann"}


async def test_pipelined_requests_are_answered_in_order(client: RawClient, backend: MemoryBackend) -> None:
    get = b"GET /analytics?" + TIMESTAMP.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    bad = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
    await client.send((get + POST + b"\r\n" + bad) * 50)
    for number in range(50):
        assert (await client.answer()).body.startswith(b"unique_users,%d\nclicks,%d\n" % (number > 0, number))
        assert (await client.answer()).status == 204
        assert (await client.answer()).status == 404
    assert backend.events == 50


@pytest.mark.parametrize("is_in_one_packet", [True, False])
async def test_garbage_behind_good_requests_does_not_spoil_them(
    client: RawClient, backend: MemoryBackend, is_in_one_packet: bool
) -> None:
    pieces = (POST + b"\r\n") * 3, b"garbage\r\n\r\n" + POST + b"\r\n"
    await client.send(*([b"".join(pieces)] if is_in_one_packet else pieces))
    assert [(await client.answer()).status for _ in range(4)] == [204, 204, 204, 400]
    assert await client.is_closed()
    assert backend.events == 3


async def test_requests_behind_one_that_waits_are_not_all_read(port: int, backend: MemoryBackend) -> None:
    """What one client can make us hold is bounded: its sends block."""
    backend.gate.clear()
    async with await RawClient.connect(port) as client:
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(0.5):
                while True:
                    await client.send((POST + b"\r\n") * 10_000)
        assert backend.asked == 1
        backend.gate.set()


async def test_head_sent_byte_by_byte_is_cut_off(app: App, backend: MemoryBackend) -> None:
    async with serving(app, header_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        started = asyncio.get_running_loop().time()
        drip = asyncio.create_task(_drip(client))
        assert (await client.answer()).problem["status"] == 408
        assert await client.is_closed()
        assert asyncio.get_running_loop().time() - started < 10 * TIMEOUT_S
        drip.cancel()
    assert backend.asked == 0


async def _drip(client: RawClient) -> None:
    for byte in POST * 100:
        await client.send(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_second_head_has_its_own_time(app: App) -> None:
    async with serving(app, header_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        for _ in range(3):
            await asyncio.sleep(TIMEOUT_S / 2)
            assert (await client.ask("POST", GOOD)).status == 204
            assert (await client.ask("POST", GOOD, body=b"x")).status == 204
        await asyncio.sleep(TIMEOUT_S * 1.5)  # Idle, which is another time-out.
        await client.send(POST)
        assert (await client.answer()).problem["status"] == 408


async def test_body_does_not_begin_the_time_of_a_head(app: App) -> None:
    async with serving(app, header_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        await client.send(POST + b"Content-Length: 2\r\n\r\n", b"a", b"b")
        assert (await client.answer()).status == 204
        await asyncio.sleep(TIMEOUT_S * 1.5)
        assert (await client.ask("POST", GOOD)).status == 204


async def test_connection_that_asks_nothing_is_closed(app: App) -> None:
    async with serving(app, header_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        assert await client.is_closed()


async def test_idle_connection_is_closed(app: App) -> None:
    async with serving(app, idle_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        assert (await client.ask("POST", GOOD)).status == 204
        assert await client.is_closed()


async def test_waiting_for_the_backend_is_not_idle(app: App, backend: MemoryBackend) -> None:
    async with (
        serving(app, idle_timeout_s=TIMEOUT_S, header_timeout_s=TIMEOUT_S) as port,
        await RawClient.connect(port) as client,
    ):
        backend.gate.clear()
        await client.send(POST + b"\r\n")
        await asyncio.sleep(2 * TIMEOUT_S)
        backend.gate.set()
        assert (await client.answer()).status == 204


async def test_client_that_fetches_no_answers_is_cut_off(app: App) -> None:
    async with (
        serving(app, idle_timeout_s=TIMEOUT_S) as port,
        await RawClient.connect(port, receive_bytes=4096) as client,
    ):
        with pytest.raises(ConnectionError):  # noqa: PT012
            async with asyncio.timeout(10):
                while True:
                    await client.send((b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n") * 1000)


async def test_client_that_goes_away_changes_nothing(port: int, backend: MemoryBackend) -> None:
    for sent in (POST, POST + b"Content-Length: 5\r\n\r\nab", b"PO"):
        async with await RawClient.connect(port) as client:
            await client.send(sent, b"")
    backend.gate.clear()
    async with await RawClient.connect(port) as client:
        await client.send(POST + b"\r\n")
        await until(lambda: backend.asked == 1)
    backend.gate.set()
    await until(lambda: backend.events == 1)  # It was asked for; only the answer has no reader.
    async with await RawClient.connect(port) as client:
        assert (await client.ask("POST", GOOD)).status == 204
    assert backend.events == 2
    gc.collect()  # An exception that nobody fetched would be told now.


@pytest.mark.parametrize("requests", [1, 3])
async def test_client_that_ends_its_side_gets_its_answers_and_then_the_end(
    client: RawClient, backend: MemoryBackend, requests: int
) -> None:
    backend.gate.clear()
    await client.send((POST + b"\r\n") * requests)
    await until(lambda: backend.asked > 0)
    client.end()
    await asyncio.sleep(0.05)
    backend.gate.set()
    assert [(await client.answer()).status for _ in range(requests)] == [204] * requests
    assert await client.is_closed()
    assert backend.events == requests


async def test_client_that_ends_its_side_within_a_request_is_let_go(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(POST + b"Content-Length: 5\r\n\r\nhal")
    client.end()
    assert (await client.answer()).status == 400
    assert await client.is_closed()
    assert backend.events == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /anal",
        POST + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        POST + b"Content-Length: 5\r\n\r\nwhole",
        b"garbage\r\n\r\n",
    ],
    ids=["nothing", "part of a head", "hot lane", "other lane", "body", "garbage"],
)
async def test_closed_connection_is_freed_without_the_garbage_collector(port: int, sent: bytes) -> None:
    """Clients that do not keep their connections would otherwise fill the memory, until it comes by."""
    gc.collect()
    earlier = _connections()  # Held, so that none of them goes while the others are counted.
    gc.disable()
    try:
        async with await RawClient.connect(port) as client:
            await client.send(sent)
            if sent.endswith((b"\n", b"whole")):
                await client.answer()
            await until(lambda: len(_connections()) == len(earlier) + 1)
        await until(lambda: len(_connections()) == len(earlier))
    finally:
        gc.enable()


def _connections() -> list[Connection]:
    """Return the connections in memory, open or not."""
    return [one for one in gc.get_objects() if type(one) is Connection]
