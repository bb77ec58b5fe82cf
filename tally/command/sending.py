"""Sends events to a gateway over many connections, each exactly once: what failed is told, never sent again."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

import aiohttp
from yarl import URL

from tally.command.rows import BadRow, Row
from tally.command.source import Batch
from tally.errors import TallyError

# The gateway gives up after 8 s and says so; this is for a gateway that says nothing.
ANSWER_S_MAX: Final = 10.0

Fail = Callable[[int, str], None]


class GatewayUnreachable(TallyError):
    """Nobody listens there; nothing was sent."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no gateway answers at {self.url} ({self.reason}); start one with `tally up`, or say where with --to"


@dataclass(slots=True)
class Outcome:
    """What came of the rows so far."""

    counted: int = 0
    failed: int = 0


class Listener(Protocol):
    """Who is told how it goes."""

    def complain(self, line: int, reason: str) -> None:
        """Hear of one row that failed."""

    def advance(self, position: int, outcome: Outcome) -> None:
        """Hear how far it is: ``position`` as in ``Batch``."""


async def send_all(batches: AsyncIterator[Batch], to: str, connections: int, listener: Listener) -> Outcome:
    """Send every row, ``connections`` at a time and in no particular order; return what came of them.

    Raises:
        GatewayUnreachable: Not even a connection could be made; nothing was sent.
        BadHeader: From ``batches``; nothing was sent.
    """
    outcome = Outcome()

    def fail(line: int, reason: str) -> None:
        outcome.failed += 1
        listener.complain(line, reason)

    # Hardly more rows wait here than are on their way: memory does not grow with the file.
    queue: asyncio.Queue[Row | None] = asyncio.Queue(maxsize=2 * connections)
    async with _session(connections) as session:
        await _knock(session, to)
        workers = [
            asyncio.create_task(_work(queue, session, f"{to}/analytics?", outcome, fail)) for _ in range(connections)
        ]
        try:
            async for position, rows in batches:
                await _hand_out(rows, queue, fail)
                listener.advance(position, outcome)
            for _ in workers:
                await queue.put(None)
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
    return outcome


def _session(connections: int) -> aiohttp.ClientSession:
    """Return a session without anything that costs time at each request and is not needed here."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


async def _knock(session: aiohttp.ClientSession, to: str) -> None:
    """Make sure that somebody listens, before every single row says that nobody does."""
    try:
        async with session.get(f"{to}/healthz"):
            pass
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise GatewayUnreachable(to, _reason(exc)) from exc


async def _hand_out(
    rows: list[Row | BadRow], queue: asyncio.Queue[Row | None], fail: Callable[[int, str], None]
) -> None:
    for row in rows:
        if isinstance(row, BadRow):
            fail(row.line, row.reason)
        else:
            await queue.put(row)


async def _work(
    queue: asyncio.Queue[Row | None],
    session: aiohttp.ClientSession,
    prefix: str,
    outcome: Outcome,
    fail: Fail,
) -> None:
    """Send one row after the other, until there is a None."""
    while (row := await queue.get()) is not None:
        try:
            # encoded: the bytes of a name arrive as they are in the file.
            async with session.post(URL(prefix + row.query, encoded=True), allow_redirects=False) as answer:
                if answer.status == HTTPStatus.NO_CONTENT:
                    outcome.counted += 1
                else:
                    fail(row.line, explain(answer.status, await answer.read()))
        except (aiohttp.ClientError, TimeoutError) as exc:
            fail(row.line, f"not acknowledged: {_reason(exc)}")


def explain(status: int, body: bytes) -> str:
    """Say why a row was not counted, from what the gateway answered. Pure."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = None
    if not isinstance(detail, str):
        detail = "no reason given"
    # Whatever answered, it shall not write control characters to a terminal.
    detail = "".join(char if char.isprintable() else "?" for char in detail)
    if 400 <= status < 500:
        return detail if detail != "no reason given" else f"refused: {status}"
    return f"not acknowledged: {status}, {detail}"


def _reason(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {ANSWER_S_MAX:.0f} s"
    if isinstance(exc, aiohttp.ClientConnectorError):
        # Not its text, which differs from one event loop to the other.
        return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or str(exc)
    return str(exc) or type(exc).__name__
