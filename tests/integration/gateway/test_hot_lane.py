"""The hot lane answers like aiohttp, byte for byte, whatever comes and however it is cut; and it keeps its place."""

import asyncio
import random
import re
import secrets
from collections.abc import Sequence
from typing import Final

import pytest

from gateway.app import App
from gateway.hot_lane import HotLane
from gateway.request import HttpRequest
from tally.errors import InDoubt, Overloaded
from tests.support.http_door import GOOD, PATIENT_S, POST, TIMEOUT_S, TIMESTAMP, serving
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import HOST, RawClient
from tests.support.waiting import until

ROUNDS: Final = 150
LAST: Final = b"GET /healthz HTTP/1.1\r\nHost: tally\r\nConnection: close\r\n\r\n"

_DATE: Final = re.compile(rb"Date: [^\r]*\r\n")
_TARGETS: Final = (
    GOOD.encode(),
    f"/analytics?{TIMESTAMP}&user=b%C3%A4rbel+x&impression".encode(),
    f"/analytics?{TIMESTAMP}".encode(),
    f"/analytics?{TIMESTAMP}&user=&click".encode(),
    b"/analytics?timestamp=17",
    b"/analytics?timestamp=x",
    b"/analytics?",
    b"/analytics",
    b"/analytics?timestamp=17&user=%zz&click",
    b'/analytics?timestamp=17&user="<>[]{}|^`\\&click',
    b"/healthz",
    b"/other?timestamp=17",
)
_HEADERS: Final = (
    b"User-Agent: fuzz",
    b"Accept: */*",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Content-Length: 0",
    b"Content-Length: 2",
    b"Idempotency-Key: k1",
    b"idempotency-key: k2 ",
    b"Idempotency-Key: ",
    b"Cookie: a=b",
    b"X-Forwarded-For: 10.0.0.1",
    b"x-anything: \xc3\xa4",
    b"Content-Type: application/json",
    b"Sec-Fetch-Mode: cors",
    b"TE: trailers",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Host: again",
    b"Accept:*/*",
    b" folded: x",
)
_BYTES: Final = (b"", b"\r\n", b"\n", b"\r", b" ", b"\x00", b"\xff", b"#", b":", b"%")


class ClosedLane(HotLane):
    """Leaves everything to aiohttp."""

    def read(self, chunk: bytes) -> HttpRequest | None:  # noqa: ARG002
        return None


def a_request(chance: random.Random) -> bytes:
    """Return one request: often a good one, sometimes with other headers, a byte or a line end changed."""
    method = chance.choice([b"POST", b"GET", b"POST", b"GET", b"PUT"])
    target = chance.choice(_TARGETS[:3]) if chance.random() < 0.6 else chance.choice(_TARGETS)
    headers = chance.sample(_HEADERS[:3], 2) if chance.random() < 0.6 else chance.sample(_HEADERS, chance.randrange(4))
    raw = b"\r\n".join(
        [b"%s %s HTTP/1.%d" % (method, target, chance.random() < 0.9), b"Host: tally", *headers, b"", b""]
    )
    if chance.random() < 0.25:
        place = chance.randrange(len(raw))
        raw = raw[:place] + chance.choice(_BYTES) + raw[place + 1 :]
    elif chance.random() < 0.1:
        lines = raw.split(b"\r\n")
        place = chance.randrange(1, len(lines))
        raw = b"\r\n".join(lines[:place]) + chance.choice([b"\n", b"\r"]) + b"\r\n".join(lines[place:])
    return raw


def in_pieces(chance: random.Random, requests: Sequence[bytes]) -> list[bytes]:
    """Return how the requests are sent: one a packet, some in one, some cut in the middle."""
    pieces: list[bytes] = []
    for raw in requests:
        cut = chance.randrange(len(raw)) if chance.random() < 0.3 else 0
        if pieces and chance.random() < 0.2:
            pieces[-1] += raw
        else:
            pieces += [piece for piece in (raw[:cut], raw[cut:]) if piece]
    return pieces


async def told(port: int, pieces: Sequence[bytes]) -> tuple[bytes, bool]:
    """Return all that the server says to these packets until it closes, and whether it did so with a reset.

    That happens when something still comes in; what was said last is lost then, or not.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for piece in pieces:
            if not writer.is_closing():
                writer.write(piece)
                await asyncio.sleep(0.002)
        async with asyncio.timeout(PATIENT_S):
            while chunk := await reader.read(65_536):
                said += chunk
    except ConnectionError:
        return _DATE.sub(b"", said), True
    finally:
        writer.transport.abort()
    return _DATE.sub(b"", said), False


@pytest.mark.parametrize("failure", [None, Overloaded("the queue", 1), InDoubt()], ids=["counts", "full", "in doubt"])
async def test_both_lanes_say_the_same_and_count_the_same(failure: Exception | None) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with the failure.
    chance = random.Random(seed)
    backends = MemoryBackend(), MemoryBackend()
    for backend in backends:
        backend.failure, backend.fails_at_once = failure, isinstance(failure, Overloaded)
    hot, plain = (App(backend) for backend in backends)
    async with (
        serving(hot, header_timeout_s=TIMEOUT_S) as hot_port,
        serving(plain, header_timeout_s=TIMEOUT_S, lane=ClosedLane()) as plain_port,
    ):
        for _ in range(ROUNDS if failure is None else ROUNDS // 5):
            pieces = in_pieces(chance, [*(a_request(chance) for _ in range(chance.randint(1, 4))), LAST])
            (ours, broke), (theirs, broke_too) = await asyncio.gather(told(hot_port, pieces), told(plain_port, pieces))
            if broke or broke_too:
                common = min(len(ours), len(theirs))
                ours, theirs = ours[:common], theirs[:common]
            assert ours == theirs, pieces
            assert hot.answered == plain.answered, pieces
    assert backends[0].kinds == backends[1].kinds
    assert backends[0].users == backends[1].users
    assert hot.answered.total() > ROUNDS / 5


async def test_what_comes_behind_a_hot_request_is_answered_after_it(client: RawClient, backend: MemoryBackend) -> None:
    backend.gate.clear()
    await client.send(POST + b"\r\n")
    await until(lambda: backend.asked == 1)
    await client.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", POST + b"\r\n")
    await asyncio.sleep(TIMEOUT_S)
    assert backend.asked == 1
    backend.gate.set()
    assert [(await client.answer()).status for _ in range(3)] == [204, 200, 204]
    assert backend.events == 2


async def test_client_that_ends_its_side_is_answered_and_then_closed(client: RawClient, backend: MemoryBackend) -> None:
    backend.gate.clear()
    await client.send(POST + b"\r\n")
    await until(lambda: backend.asked == 1)
    client.end()
    await asyncio.sleep(TIMEOUT_S)
    backend.gate.set()
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (204, "close")
    assert await client.is_closed()


async def test_connection_that_waits_for_its_answer_is_not_idle(app: App, backend: MemoryBackend) -> None:
    async with serving(app, idle_timeout_s=TIMEOUT_S) as port, await RawClient.connect(port) as client:
        backend.gate.clear()
        await client.send(POST + b"\r\n")
        await asyncio.sleep(3 * TIMEOUT_S)
        backend.gate.set()
        assert (await client.answer()).status == 204
        assert await client.is_closed(), "now it is"


async def test_client_that_goes_away_while_it_waits_leaves_nothing(app: App, backend: MemoryBackend) -> None:
    async with serving(app) as port:
        backend.gate.clear()
        client = await RawClient.connect(port)
        await client.send(POST + b"\r\n")
        await until(lambda: backend.asked == 1)
        client.abort()
        await asyncio.sleep(TIMEOUT_S)
        backend.gate.set()
        async with await RawClient.connect(port) as other:
            assert (await other.ask("POST", GOOD)).status == 204
    assert backend.events == 2
