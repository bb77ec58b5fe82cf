"""Requests that are too large are refused before they fill anything."""

import pytest

from tests.support.http_door import GOOD, POST, TIMESTAMP
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


async def test_body_that_does_not_come_is_408(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(POST + b"Content-Length: 10\r\n\r\n", b"12345")
    assert (await client.answer()).problem["status"] == 408
    assert await client.is_closed()
    assert backend.asked == 0


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
