"""Sends events to a gateway over many connections, each at most once: what failed is told, never sent again."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

import aiohttp
from yarl import URL

from tally.command.importer.door import NOT_CONNECTED, Door, Halt, knock, reason_of
from tally.command.importer.rows import BadRow, Row
from tally.command.importer.source import Batch

# The gateway gives up after 8 s and says so; this is for a gateway that says nothing.
ANSWER_S_MAX: Final = 10.0
CONNECT_S_MAX: Final = 5.0
LAST_ANSWERS_S_MAX: Final = 3.0


@dataclass(slots=True)
class Outcome:
    """What came of the rows so far.

    Attributes:
        counted: How many were counted, each once.
        refused: How many were not counted and never will be: no event, or refused by the gateway.
        unknown: How many were sent and not acknowledged: each is counted once or not at all.
        skipped: How many were not sent, though a later one was.
        unsent_from: The line from which on nothing was sent; None if all was.
        halted: Why it ended before its time; empty if it did not.
    """

    counted: int = 0
    refused: int = 0
    unknown: int = 0
    skipped: int = 0
    unsent_from: int | None = None
    halted: str = ""

    @property
    def settled(self) -> int:
        """How many rows are done with."""
        return self.counted + self.refused + self.unknown


class Listener(Protocol):
    """Who is told how it goes."""

    def say(self, text: str) -> None:
        """Hear of something that concerns no single row."""

    def complain(self, line: int, reason: str) -> None:
        """Hear of one row that was not counted, or may not have been."""

    def advance(self, position: int, outcome: Outcome) -> None:
        """Hear how far it is: ``position`` as in ``Batch``."""


async def send_all(
    batches: AsyncIterator[Batch], to: str, connections: int, listener: Listener, halt: Halt | None = None
) -> Outcome:
    """Send every row, ``connections`` at a time and in no particular order; return what came of them.

    Once ``halt`` is set nothing more is sent, and the answers under way get a few seconds. A gateway that takes no
    connections is waited for: what could not be sent is sent then. If it does not come back, this sets ``halt``.

    Raises:
        GatewayUnreachable: There is no gateway; nothing was sent.
        BadHeader: From ``batches``; nothing was sent.
    """
    async with _session(connections) as session:
        sender = _Sender(session, to, listener, halt or Halt())
        await sender.run(batches, connections)
    return sender.outcome


def _session(connections: int) -> aiohttp.ClientSession:
    """Return a session without anything that costs time at each request and is not needed here."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections + 1),  # One more, to look whether the gateway is back.
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX, sock_connect=CONNECT_S_MAX),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


class _Sender:
    """One import."""

    def __init__(self, session: aiohttp.ClientSession, to: str, listener: Listener, halt: Halt) -> None:
        self.outcome = Outcome()
        self._session = session
        self._to = to
        self._prefix = f"{to}/analytics?"
        self._listener = listener
        self._halt = halt
        self._door = Door(session, to, halt, listener.say)
        self._last_sent = 0  # The highest line of those that were sent.
        self._unsent: list[int] = []  # Lines that were read and not sent.

    async def run(self, batches: AsyncIterator[Batch], connections: int) -> None:
        # Hardly more rows wait here than are on their way: memory does not grow with the file.
        queue: asyncio.Queue[Row | None] = asyncio.Queue(maxsize=2 * connections)
        feeder = asyncio.create_task(self._feed(batches, queue, connections))
        workers = [asyncio.create_task(self._work(queue)) for _ in range(connections)]
        halted = asyncio.create_task(self._halt.wait())
        whole = asyncio.create_task(_all_of([feeder, *workers]))
        try:
            await asyncio.wait({whole, halted}, return_when=asyncio.FIRST_COMPLETED)
            if whole.done():
                whole.result()
            if self._halt.is_set():
                await self._end_early(feeder, workers, queue)
        finally:
            self._door.close()
            tasks = [whole, halted, feeder, *workers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, batches: AsyncIterator[Batch], queue: asyncio.Queue[Row | None], workers: int) -> None:
        """Hand out what is read, and at the end a None to each worker."""
        await knock(self._session, self._to)
        async for position, rows in batches:
            for row in rows:
                if isinstance(row, BadRow):
                    self._refused(row.line, row.reason)
                else:
                    await queue.put(row)
            self._listener.advance(position, self.outcome)
        for _ in range(workers):
            await queue.put(None)

    async def _work(self, queue: asyncio.Queue[Row | None]) -> None:
        """Send one row after the other, until there is a None."""
        while (row := await queue.get()) is not None:
            if not await self._send(row):
                self._unsent.append(row.line)

    async def _send(self, row: Row) -> bool:
        """Send one row; False if ``halt`` was set before it could be."""
        # encoded: the bytes of a name arrive as they are in the file.
        url = URL(self._prefix + row.query, encoded=True)
        while not self._halt.is_set():
            try:
                async with self._session.post(url, allow_redirects=False) as answer:
                    if answer.status == HTTPStatus.NO_CONTENT:
                        self.outcome.counted += 1
                    elif 400 <= answer.status < 500:
                        self._refused(row.line, explain(answer.status, await answer.read()))
                    else:
                        self._unknown(row.line, explain(answer.status, await answer.read()))
            except NOT_CONNECTED as exc:
                await self._door.wait(exc)
                continue
            except (aiohttp.ClientError, TimeoutError) as exc:
                self._unknown(row.line, reason_of(exc))
            except asyncio.CancelledError:
                self._unknown(row.line, "not waited for its answer")
                raise
            self._last_sent = max(self._last_sent, row.line)
            return True
        return False

    async def _end_early(
        self, feeder: asyncio.Task[None], workers: list[asyncio.Task[None]], queue: asyncio.Queue[Row | None]
    ) -> None:
        """Send nothing more, wait a little for the answers under way, and find out what was not sent."""
        all_was_read = feeder.done()
        feeder.cancel()
        await asyncio.wait({feeder})
        while not queue.empty():
            if (row := queue.get_nowait()) is not None:
                self._unsent.append(row.line)
        for _ in workers:
            queue.put_nowait(None)
        await asyncio.wait(workers, timeout=LAST_ANSWERS_S_MAX)
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        self.outcome.halted = self._halt.reason
        if self._unsent or not all_was_read:
            self.outcome.unsent_from = self._last_sent + 1
        for line in sorted(line for line in self._unsent if line < self._last_sent):
            self.outcome.skipped += 1
            self._listener.complain(line, "not sent")

    def _refused(self, line: int, reason: str) -> None:
        self.outcome.refused += 1
        self._listener.complain(line, reason)

    def _unknown(self, line: int, reason: str) -> None:
        self.outcome.unknown += 1
        self._last_sent = max(self._last_sent, line)
        self._listener.complain(line, f"not acknowledged: {reason}")


async def _all_of(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all, or for the first that fails, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


def explain(status: int, body: bytes) -> str:
    """Say why a row was not counted, from what the gateway answered. Pure."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = None
    if not isinstance(detail, str):
        return f"refused: {status}" if 400 <= status < 500 else f"{status}, no reason given"
    # Whatever answered, it shall not write control characters to a terminal.
    detail = "".join(char if char.isprintable() else "?" for char in detail)
    return detail if 400 <= status < 500 else f"{status}, {detail}"
