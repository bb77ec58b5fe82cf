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
        *(
            (b"POST " + GOOD.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400)
            for host in (
                b"a b",
                b"a/b",
                b"a@b",
                b"a:b",
                b"a:1:2",
                b"<a>",
                b'"',
                b"a:123456",
                b"[::1",
                b"\xc3\xa4",
                b"%zz",
            )
        ),
        (b"POST " + GOOD.encode() + b" HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
        *(
            (POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n", 501)
            for coding in (b"gzip, chunked", b"gzip", b"identity", b"chunked, gzip", b"xchunked", b"chunked;q=1")
        ),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        *(
            (POST + b"Expect: " + what + b"\r\n\r\n", 417)
            for what in (b"200-ok", b"100-continue, x", b"", b"100-continue2")
        ),
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


@pytest.mark.parametrize(
    "host", [b"tally:8080", b"", b"127.0.0.1:", b"[::1]:80", b"xn--a_b.example.", b"a%20b", b"[fe80::1]"]
)
async def test_host_may_be_any_name_or_address(client: RawClient, host: bytes) -> None:
    await client.send(b"POST " + GOOD.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert (await client.answer()).status == 204


async def test_refusals_do_not_fill_the_log(port: int, log: list[Any]) -> None:
    for _ in range(50):
        async with await RawClient.connect(port) as client:
            await client.send(b"garbage\r\n\r\n")
            assert (await client.answer()).problem["status"] == 400
    assert len(log) < 25


async def test_browser_is_told_not_to_guess_what_an_error_is(client: RawClient) -> None:
    for target in (b"/<script>", b"/analytics?<script>"):
        assert (await client.ask("GET", target)).headers["x-content-type-options"] == "nosniff"


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
