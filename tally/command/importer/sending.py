"""Sends events to a gateway over many connections, each with its key and again until the answer is definite."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import aiohttp
from yarl import URL

from tally.client.jitter import jitter
from tally.command.importer.door import knock, reason_of
from tally.command.importer.halt import Halt
from tally.command.importer.retrying import KEY_KNOWN_S, Patience, Verdict, explain, pause_s, verdict_of
from tally.command.importer.rows import BadRow, Row
from tally.command.importer.source import Batch
from tally.event import KEY_HEADER
from tally.tasks import awaited

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
        unknown: How many had no definite answer when it was stopped: each is counted once or not at all.
        sent_again: How many have no definite answer yet, after one attempt at least.
        unsent_from: The line from which on nothing was sent; None if all was.
        halted: Why it ended before its time; empty if it did not.
    """

    counted: int = 0
    refused: int = 0
    unknown: int = 0
    sent_again: int = 0
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


class _NoAnswer(NamedTuple):
    """An attempt that says nothing about its event."""

    reason: str
    retry_after: str | None = None


class Sending:
    """One import: sends every row, in no particular order and some at a time."""

    def __init__(
        self,
        to: str,
        key: Callable[[int], str],
        listener: Listener,
        *,
        connections: int,
        patience: Patience,
        halt: Halt | None = None,
    ) -> None:
        """Prepare.

        Args:
            to: The gateway's URL.
            key: Gives the idempotency key of a line that the batches had.
            listener: Is told how it goes.
            connections: How many rows are on their way at once; one that is sent again is one of them.
            patience: Knows when to stop because no row at all is answered.
            halt: Once it is set nothing more is sent, and the answers under way get a few seconds.
        """
        self.outcome = Outcome()
        self._to = to
        self._target = f"{to}/analytics?"
        self._key = key
        self._listener = listener
        self._connections = connections
        self._patience = patience
        self._halt = halt or Halt()
        self._last_sent = 0  # Rows set out in the order of their lines.
        self._all_was_sent = True

    async def run(self, batches: AsyncIterator[Batch]) -> Outcome:
        """Send all; return what came of it.

        Raises:
            GatewayUnreachable: There is no gateway; nothing was sent.
            BadHeader: From ``batches``; nothing was sent.
        """
        async with _session(self._connections) as session:
            # Hardly more rows wait here than are on their way: memory does not grow with the file.
            queue: asyncio.Queue[Row | None] = asyncio.Queue(maxsize=2 * self._connections)
            feeder = awaited(self._feed(session, batches, queue), name="feed")
            workers = [awaited(self._work(session, queue), name="send") for _ in range(self._connections)]
            halted = awaited(self._halt.wait(), name="halt")
            whole = awaited(_all_of([feeder, *workers]), name="all rows")
            try:
                await asyncio.wait({whole, halted}, return_when=asyncio.FIRST_COMPLETED)
                if whole.done():
                    whole.result()
                if self._halt.is_set():
                    await self._end_early(feeder, workers, queue)
            finally:
                tasks = [whole, halted, feeder, *workers]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return self.outcome

    async def _feed(
        self, session: aiohttp.ClientSession, batches: AsyncIterator[Batch], queue: asyncio.Queue[Row | None]
    ) -> None:
        """Hand out what is read, and at the end a None to each worker."""
        await knock(session, self._to)
        async for position, rows in batches:
            for row in rows:
                if isinstance(row, BadRow):
                    self._refused(row.line, row.reason)
                else:
                    await queue.put(row)
            self._listener.advance(position, self.outcome)
        for _ in range(self._connections):
            await queue.put(None)

    async def _work(self, session: aiohttp.ClientSession, queue: asyncio.Queue[Row | None]) -> None:
        """Send one row after the other, until there is a None."""
        while (row := await queue.get()) is not None:
            if self._halt.is_set():
                self._all_was_sent = False
                continue
            self._last_sent = row.line
            try:
                failed = await self._send(session, row)
            except asyncio.CancelledError:
                self._unknown(row.line, "not waited for its answer")
                raise
            if failed:
                self._unknown(row.line, failed.reason)

    async def _send(self, session: aiohttp.ClientSession, row: Row) -> _NoAnswer | None:
        """Send one row until there is a definite answer; return how the last attempt failed if ``halt`` was set."""
        # encoded: the bytes of a name arrive as they are in the file.
        url, headers = URL(self._target + row.query, encoded=True), {KEY_HEADER: self._key(row.line)}
        failed = await self._attempt(session, row.line, url, headers)
        if failed is None:
            return None
        now = asyncio.get_running_loop().time
        self.outcome.sent_again += 1
        try:
            attempts, repeated_until = 1, now() + KEY_KNOWN_S
            while failed:
                if not self._halt.is_set():
                    self._tell(self._patience.failed(now(), failed.reason))
                if self._patience.is_over(now()) or now() >= repeated_until:
                    self._halt.set(f"no answer for too long: {failed.reason}")
                if await self._halt.within(pause_s(attempts, failed.retry_after, jitter())):
                    return failed
                failed = await self._attempt(session, row.line, url, headers)
                attempts += 1
            return None
        finally:
            self.outcome.sent_again -= 1

    async def _attempt(
        self, session: aiohttp.ClientSession, line: int, url: URL, headers: dict[str, str]
    ) -> _NoAnswer | None:
        """Send one row once; None if its answer is definite."""
        try:
            async with session.post(url, headers=headers, allow_redirects=False) as answer:
                body = await answer.read()
                verdict = verdict_of(answer.status, answer.headers.get("Content-Type", ""), body)
                reason = explain(verdict, answer.status, body)
                if verdict is Verdict.UNKNOWN:
                    return _NoAnswer(reason, answer.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError) as exc:
            return _NoAnswer(reason_of(exc))
        if verdict is Verdict.COUNTED:
            self.outcome.counted += 1
        else:
            self._refused(line, reason)
        self._tell(self._patience.answered())
        return None

    async def _end_early(
        self, feeder: asyncio.Task[None], workers: list[asyncio.Task[None]], queue: asyncio.Queue[Row | None]
    ) -> None:
        """Send nothing more, wait a little for the answers under way, and find out what was not sent."""
        self._all_was_sent &= feeder.done()
        feeder.cancel()
        await asyncio.wait({feeder})
        while not queue.empty():
            self._all_was_sent &= queue.get_nowait() is None
        for _ in workers:
            queue.put_nowait(None)
        await asyncio.wait(workers, timeout=LAST_ANSWERS_S_MAX)
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        self.outcome.halted = self._halt.reason
        if not self._all_was_sent:
            self.outcome.unsent_from = self._last_sent + 1

    def _refused(self, line: int, reason: str) -> None:
        self.outcome.refused += 1
        self._listener.complain(line, reason)

    def _unknown(self, line: int, reason: str) -> None:
        self.outcome.unknown += 1
        self._listener.complain(line, f"not acknowledged: {reason}")

    def _tell(self, text: str) -> None:
        if text:
            self._listener.say(text)


def _session(connections: int) -> aiohttp.ClientSession:
    """Return a session without anything that costs time at each request and is not needed here."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX, sock_connect=CONNECT_S_MAX),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )


async def _all_of(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all, or for the first that fails, and raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
