"""Requests that are too large are refused before they fill anything."""

import asyncio

import pytest

from gateway.app import App
from tests.support.http_door import GOOD, POST, TIMEOUT_S, TIMESTAMP, serving
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import HOST, RawClient


async def test_uri_of_8190_bytes_is_read_and_of_8191_is_414(port: int, backend: MemoryBackend) -> None:
    longest = GOOD.encode() + b"&" + b"x" * (8190 - len(GOOD) - 1)
    async with await RawClient.connect(port) as client:
        assert (await client.ask("POST", longest)).status == 400  # An unknown parameter, and the connection goes on.
        assert (await client.ask("POST", longest + b"x")).problem["status"] == 414
        assert await client.is_closed()
    async with await RawClient.connect(port) as client:
        line = b"POST " + longest + b"x HTTP/1.1\r\n"
        await client.send(*(line[start : start + 1000] for start in range(0, len(line), 1000)))
        assert (await client.answer()).problem["status"] == 414
    assert backend.asked == 0


async def test_request_line_without_end_is_414_soon(port: int) -> None:
    async with await RawClient.connect(port) as client:
        await client.send(b"GET /" + b"x" * 100_000)
        assert (await client.answer()).problem["status"] == 414


@pytest.mark.parametrize(
    "headers",
    [
        b"Cookie: " + b"x" * 9000 + b"\r\n",
        b"x" * 9000 + b": y\r\n",
        b"Cookie: " + b"x" * 100_000,
        b"".join(b"X-%d: y\r\n" % number for number in range(70)),
    ],
    ids=["long value", "long name", "value without end", "many"],
)
async def test_large_headers_are_431(client: RawClient, backend: MemoryBackend, headers: bytes) -> None:
    await client.send(POST + headers + b"\r\n")
    assert (await client.answer()).problem["status"] == 431
    assert await client.is_closed()
    assert backend.asked == 0


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
async def test_small_body_is_thrown_away(client: RawClient, method: str) -> None:
    assert (await client.ask(method, f"/analytics?{TIMESTAMP}", body=b"x" * 1024)).status in (200, 400, 405)
    assert (await client.ask("POST", GOOD, body=b"user=eve")).status == 204


async def test_small_chunked_body_is_thrown_away(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert (await client.answer()).status == 204
    assert (await client.ask("POST", GOOD)).status == 204
    assert backend.events == 2


@pytest.mark.parametrize("path", [b"/analytics", b"/x"])
async def test_large_body_is_413_before_it_is_sent(client: RawClient, backend: MemoryBackend, path: bytes) -> None:
    await client.send(b"POST " + path + b"?x HTTP/1.1\r\n" + HOST + b"Content-Length: 1025\r\n\r\n")
    answer = await client.answer()
    assert answer.problem["status"] == 413
    assert answer.headers["connection"] == "close"
    assert await client.is_closed()
    assert backend.asked == 0


async def test_large_body_that_came_at_once_is_413(client: RawClient, backend: MemoryBackend) -> None:
    assert (await client.ask("POST", GOOD, body=b"x" * 1025)).problem["status"] == 413
    assert backend.asked == 0


async def test_large_chunked_body_is_413_as_soon_as_it_is(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n", b"1\r\nx\r\n")
    assert (await client.answer()).problem["status"] == 413
    await client.send(b"nonsense")
    assert await client.is_closed()
    assert backend.asked == 0


async def test_small_compressed_body_is_not_unpacked(client: RawClient) -> None:
    answer = await client.ask("POST", GOOD, headers=b"Content-Encoding: gzip\r\n", body=b"not gzip")
    assert answer.status == 204


async def test_head_of_32_kib_is_read_and_a_larger_one_is_431(client: RawClient, backend: MemoryBackend) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 8000) for number in range(4))
    rest = 32_768 - len(POST) - len(lines) - len(b"X-4: \r\n\r\n")
    whole = POST + lines + b"X-4: " + b"y" * rest
    await client.send(whole + b"\r\n\r\n")
    assert (await client.answer()).status == 204
    await client.send(whole + b"y\r\n\r\n")
    assert (await client.answer()).problem["status"] == 431
    assert await client.is_closed()
    assert backend.events == 1


async def test_head_that_gets_too_large_is_431_before_it_ends(client: RawClient) -> None:
    line = b"X-%d: " + b"y" * 8000 + b"\r\n"
    await client.send(POST, *(line % number for number in range(5)))
    assert (await client.answer()).problem["status"] == 431
    assert await client.is_closed()


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 10\r\n\r\n12345",
        b"Transfer-Encoding: chunked\r\n\r\n30\r\nab",
        b"Transfer-Encoding: chunked\r\n\r\n3;exten",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x",
    ],
    ids=["length", "chunk", "chunk extension", "trailer"],
)
@pytest.mark.parametrize("drip", [b"", b"x"])
async def test_body_that_does_not_come_in_time_is_408(
    app: App, backend: MemoryBackend, sent: bytes, drip: bytes
) -> None:
    """Its time begins with the end of the head, and single bytes do not renew it."""
    async with serving(app, header_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        await client.send(POST + sent)
        dripping = asyncio.create_task(_drip(client, drip))
        started = asyncio.get_running_loop().time()
        assert (await client.answer()).problem["status"] == 408
        assert asyncio.get_running_loop().time() - started < 5 * TIMEOUT_S
        assert await client.is_closed()
        dripping.cancel()
    assert backend.asked == 0


async def _drip(client: RawClient, drip: bytes) -> None:
    while drip:
        await asyncio.sleep(TIMEOUT_S / 4)
        await client.send(drip)


@pytest.mark.parametrize(
    "body",
    [
        b"1;" + b"x" * 1100,
        b"1;x=1\r\nx\r\n" * 1100,
        b"0\r\n" + b"A: b\r\n" * 2000,
        b"0\r\nA: " + b"b" * 2000,
        b"ffffffffffffffff\r\n",
    ],
    ids=["long extension", "many extensions", "many trailers", "long trailer", "size"],
)
async def test_what_stands_around_chunks_is_bounded(client: RawClient, backend: MemoryBackend, body: bytes) -> None:
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert (await client.answer()).problem["status"] == 413
    assert await client.is_closed()
    assert backend.asked == 0


@pytest.mark.parametrize(
    "body",
    [
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nxy\r\n",
        b"0x1\r\n",
        b"-1\r\n",
        b"1 \r\n",
        b"0\r\nno colon\r\n\r\n",
        b"1;\x00\r\n",
        b"\r\n",
    ],
)
async def test_chunks_are_taken_by_the_letter(client: RawClient, backend: MemoryBackend, body: bytes) -> None:
    """Whoever reads them otherwise, such as a proxy, must not see another request in them."""
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert (await client.answer()).problem["status"] == 400
    assert await client.is_closed()
    assert backend.asked == 0


async def test_chunks_with_extensions_and_trailers_may_come_in_any_pieces(
    client: RawClient, backend: MemoryBackend
) -> None:
    raw = POST + b'Transfer-Encoding: Chunked\r\n\r\n3;a="b"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n'
    for cut in range(1, len(raw)):
        await client.send(raw[:cut], raw[cut:])
        assert (await client.answer()).status == 204
    assert backend.events == len(raw) - 1


async def test_unfinished_requests_share_their_memory(app: App, backend: MemoryBackend) -> None:
    """Who began first gives way; the others do not notice."""
    part = POST + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 7000) for number in range(4))
    async with (
        serving(app, held_bytes_max=2 * len(part) + 1000) as port,
        await RawClient.connect(port) as first,
        await RawClient.connect(port) as second,
        await RawClient.connect(port) as third,
    ):
        for client in (first, second, third):
            await client.send(part, b"")
        assert (await first.answer()).problem["status"] == 408
        assert await first.is_closed()
        for client in (second, third):
            await client.send(b"\r\n")
            assert (await client.answer()).status == 204
    assert backend.events == 2


async def test_body_with_broken_chunks_is_400(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n")
    assert (await client.answer()).problem["status"] == 400
    assert await client.is_closed()
    assert backend.asked == 0


async def test_client_that_expects_it_is_told_to_go_on(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert (await client.answer()).status == 100
    assert backend.asked == 0
    await client.send(b"abc")
    assert (await client.answer()).status == 204
    assert (await client.ask("POST", GOOD)).status == 204


async def test_large_body_is_refused_before_the_client_goes_on(client: RawClient) -> None:
    await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 3000\r\n\r\n")
    assert (await client.answer()).status == 413
