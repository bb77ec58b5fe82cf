"""Connections end when nobody needs them any more, and nobody can take all of them."""

import asyncio
import gc
from typing import Any, Final

import pytest

from gateway.app import App
from tests.support.http_door import GOOD, POST, TIMEOUT_S, serving
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import HOST, RawClient
from tests.support.sockets import connections_of
from tests.support.waiting import until

REQUESTS: Final = {
    "hot lane": POST + b"\r\n",
    "other lane": b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "task": b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n",
    "body": POST + b"Content-Length: 5\r\n\r\nwhole",
    "refused": b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "close": POST + b"Connection: close\r\n\r\n",
    "malformed": b"garbage\r\n\r\n",
}
each_request = pytest.mark.parametrize("raw", REQUESTS.values(), ids=REQUESTS)


@each_request
@pytest.mark.parametrize("pause_s", [0, 0.005])
async def test_client_that_goes_after_its_answer_leaves_no_socket(port: int, raw: bytes, pause_s: float) -> None:
    """Whenever its end comes: with the answer, just after it, or later."""
    for _ in range(20):
        async with await RawClient.connect(port) as client:
            await client.send(raw)
            await client.answer()
            await asyncio.sleep(pause_s)
            client.close()
    await until(lambda: connections_of(port) == 0, within_s=2)


@each_request
@pytest.mark.parametrize("is_slow", [True, False])
async def test_client_that_ends_its_side_with_its_request_is_answered_and_then_closed(
    port: int, backend: MemoryBackend, raw: bytes, is_slow: bool
) -> None:
    """So does ``printf ... | nc -N``."""
    if is_slow:
        backend.gate.clear()
        asyncio.get_running_loop().call_later(TIMEOUT_S, backend.gate.set)
    async with await RawClient.connect(port) as client:
        await client.send(raw)
        client.end()
        assert (await client.answer()).status in (200, 204, 400, 404)
        assert await client.is_closed()
        await until(lambda: connections_of(port) == 0, within_s=2)


@pytest.mark.parametrize("requests", [1, 3, 300])
async def test_client_that_ends_its_side_gets_all_answers_it_is_owed(
    port: int, backend: MemoryBackend, requests: int
) -> None:
    async with await RawClient.connect(port) as client:
        await client.send((POST + b"\r\n") * requests)
        client.end()
        assert [(await client.answer()).status for _ in range(requests)] == [204] * requests
        assert await client.is_closed()
    assert backend.events == requests


async def test_client_that_goes_while_it_is_owed_an_answer_is_let_go_after_it(
    port: int, backend: MemoryBackend
) -> None:
    backend.gate.clear()
    async with await RawClient.connect(port) as client:
        await client.send(POST + b"\r\n")
        await until(lambda: backend.asked == 1)
        client.close()
    await asyncio.sleep(TIMEOUT_S)
    backend.gate.set()
    await until(lambda: connections_of(port) == 0, within_s=2)
    assert backend.events == 1


@pytest.mark.parametrize("sent", [b"", b"\r\n", POST, POST + b"Content-Length: 5\r\n\r\nhal"])
async def test_client_that_ends_its_side_and_is_owed_nothing_is_closed_at_once(port: int, sent: bytes) -> None:
    async with await RawClient.connect(port) as client:
        await client.send(sent)
        client.end()
        if len(sent) > len(HOST):
            assert (await client.answer()).problem["status"] == 400
        assert await client.is_closed(within_s=1)
        await until(lambda: connections_of(port) == 0, within_s=2)


async def test_last_answer_is_not_lost_to_what_still_comes_in(port: int) -> None:
    """A reset would take it from the client."""
    async with await RawClient.connect(port) as client:
        await client.send(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
        await client.send(*(b"x" * 1000 for _ in range(50)))
        assert (await client.answer()).problem["status"] == 413
        assert await client.is_closed()
        await until(lambda: connections_of(port) == 0, within_s=3)


# Too many.


async def test_longest_idle_connection_makes_way_for_a_new_one(app: App) -> None:
    async with (
        serving(app, connections=2) as port,
        await RawClient.connect(port) as first,
        await RawClient.connect(port) as second,
    ):
        for client in (second, first, second):
            assert (await client.ask("POST", GOOD)).status == 204
        async with await RawClient.connect(port) as third:
            assert (await third.ask("POST", GOOD)).status == 204
            assert await first.is_closed()
            assert (await second.ask("POST", GOOD)).status == 204


async def test_connection_that_is_owed_an_answer_makes_no_way(app: App, backend: MemoryBackend) -> None:
    async with (
        serving(app, connections=2) as port,
        await RawClient.connect(port) as first,
        await RawClient.connect(port) as second,
    ):
        backend.gate.clear()
        for asked, client in enumerate((first, second), 1):
            await client.send(POST + b"\r\n")
            await until(lambda asked=asked: backend.asked == asked)  # type: ignore[misc]
        async with await RawClient.connect(port) as third:
            answer = await third.answer()
            assert answer.problem["status"] == 503
            assert answer.headers["retry-after"] == "1"
            assert await third.is_closed()
        backend.gate.set()
        for client in (first, second):
            assert (await client.answer()).status == 204
        async with await RawClient.connect(port) as fourth:
            assert (await fourth.ask("POST", GOOD)).status == 204


@pytest.mark.parametrize("sent", [b"", POST, POST + b"Content-Length: 5\r\n\r\nhal"], ids=["nothing", "head", "body"])
async def test_client_that_does_not_finish_its_request_makes_way(app: App, sent: bytes) -> None:
    async with serving(app, connections=1) as port, await RawClient.connect(port) as slow:
        await slow.send(sent, b"")
        async with await RawClient.connect(port) as other:
            assert (await other.ask("POST", GOOD)).status == 204
        if sent:
            assert (await slow.answer()).problem["status"] == 408
        assert await slow.is_closed()


async def test_client_that_does_not_fetch_its_answers_makes_way(app: App) -> None:
    async with serving(app, connections=1) as port, await RawClient.connect(port, receive_bytes=4096) as deaf:
        await fill(deaf)
        async with await RawClient.connect(port) as other:
            assert (await other.ask("POST", GOOD)).status == 204


async def test_clients_that_come_and_go_are_all_served(app: App) -> None:
    async with serving(app, connections=4) as port:
        for _ in range(200):
            async with await RawClient.connect(port) as client:
                assert (await client.ask("POST", GOOD)).status == 204
                client.close()


# Who does not read.


async def fill(client: RawClient) -> None:
    """Send requests and fetch no answer, until no more can be sent."""
    with pytest.raises(TimeoutError):  # noqa: PT012
        while True:
            async with asyncio.timeout(5 * TIMEOUT_S):
                await client.send((b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n") * 100)


async def test_client_that_does_not_fetch_its_answers_is_answered_no_more(app: App) -> None:
    async with serving(app) as port, await RawClient.connect(port, receive_bytes=4096) as deaf:
        await fill(deaf)
        answered = -1
        while answered != app.answered.total():  # Until the buffers of both kernels are full.
            answered = app.answered.total()
            assert answered < 50_000
            await asyncio.sleep(5 * TIMEOUT_S)
        async with await RawClient.connect(port) as other:
            assert (await other.ask("POST", GOOD)).status == 204
        for _ in range(answered):  # Now it does, and nothing is lost.
            assert (await deaf.answer()).status == 404
        assert app.answered.total() > answered


async def test_client_that_has_gone_without_fetching_its_answers_leaves_nothing(app: App) -> None:
    async with serving(app) as port:
        deaf = await RawClient.connect(port, receive_bytes=4096)
        await fill(deaf)
        deaf.abort()
        await until(lambda: connections_of(port) == 0, within_s=3)


# Resets.


@pytest.mark.parametrize("offset_s", [-0.01, 0, 0.001, 0.01])
async def test_reset_when_a_head_is_overdue_leaves_no_traceback(app: App, offset_s: float, log: list[Any]) -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    async with serving(app, header_timeout_s=TIMEOUT_S) as port:
        clients = [await RawClient.connect(port) for _ in range(50)]
        for client in clients:
            await client.send(POST)
        await asyncio.sleep(TIMEOUT_S + offset_s)
        for client in clients:
            client.abort()
        await until(lambda: connections_of(port) == 0, within_s=2)
        gc.collect()  # An exception that nobody fetched would be told now.
    assert not failures
    assert {line["event"] for line in log} <= {"request_refused"}
