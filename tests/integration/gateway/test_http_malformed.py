"""What is not HTTP/1.1 is refused and closed, with one line in the log and nothing counted."""

from typing import Any

import pytest

from tests.support.http_door import GOOD, POST
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import HOST, RawClient


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST " + GOOD.encode() + b"\r\n\r\n", 505),
        (b"POST " + GOOD.encode() + b" HTTP/0.9\r\n" + HOST + b"\r\n", 505),
        (b"POST " + GOOD.encode() + b" HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"POST " + GOOD.encode() + b" HTTP/1.2\r\n" + HOST + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST http://tally" + GOOD.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST http://xn--" + GOOD.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT tally:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST " + GOOD.encode() + b" HTTP/1.1\r\n\r\n", 400),
        (POST + HOST + b"\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (POST + b"no colon\r\n\r\n", 400),
        (POST + b"a: \x00\r\n\r\n", 400),
        (POST.replace(b"user=ann", b"user=ann b") + b"\r\n", 400),
        (POST.replace(b"user=ann", b"user=\xff") + b"\r\n", 400),
        (POST.replace(b"user=ann", "user=é".encode()) + b"\r\n", 400),
        (POST.replace(b"user=ann", b"user=\x00") + b"\r\n", 400),
        (b"ANN / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\x00" * 100, 400),
    ],
)
async def test_malformed_http_is_refused_and_closed(
    client: RawClient, backend: MemoryBackend, log: list[Any], raw: bytes, status: int
) -> None:
    await client.send(raw)
    assert (await client.answer()).problem["status"] == status
    assert await client.is_closed()
    assert backend.asked == 0
    assert [line["event"] for line in log] == ["request_refused"]


async def test_http_1_0_is_served(client: RawClient, backend: MemoryBackend) -> None:
    await client.send(b"POST " + GOOD.encode() + b" HTTP/1.0\r\n\r\n")
    assert (await client.answer()).status == 204
    assert await client.is_closed()
    assert backend.events == 1


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_upgrade_is_ignored_and_nothing_behind_it_is_served(
    client: RawClient, backend: MemoryBackend, protocol: bytes
) -> None:
    await client.send(POST + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n" + POST + b"\r\n")
    answer = await client.answer()
    assert answer.status == 204
    assert answer.headers["connection"] == "close"
    assert await client.is_closed()
    assert backend.events == 1
