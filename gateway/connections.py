"""The connections of all clients together: how many there are, what they hold, and who has to go.

A client that sends or fetches nothing costs a place, some bytes and a time, and each of these has a bound: what goes is
what has waited for its client longest, so that whoever speaks HTTP as usual finds a place at any time.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final, Protocol

from gateway.waiting import HeldBytes, Phase, Waiting

_LOOK_EVERY_S: Final = 0.5  # At most; what is overdue is ended so much later.
_FETCH_S: Final = 1.0  # How long the last answers may be fetched when all connections are closed.
_POLL_S: Final = 0.1


class Client(Protocol):
    """One connection."""

    @property
    def phase(self) -> Phase:
        """What it does now."""

    def be_late(self) -> None:
        """End a phase that has lasted too long."""

    def make_way(self) -> None:
        """End at once, for others."""

    def refuse_one_too_many(self) -> None:
        """Turn the client away: all others wait for us."""

    def refuse_unfinished(self) -> None:
        """Give up a request that is not complete, and what is held of it."""

    def stop(self) -> None:
        """End as soon as the request under way is answered."""

    def abort(self) -> None:
        """End at once; what is not sent yet is lost."""


class Connections:
    """Knows all connections, and keeps their bounds.

    Attributes:
        waiting: Who waits, and since when; connections tell it of their phases themselves.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limits_s: Mapping[Phase, float],
        connections_max: int,
        held_bytes_max: int,
    ) -> None:
        """Begin with no connection.

        Args:
            loop: Has the time.
            limits_s: How long each phase may last.
            connections_max: How many may be open at a time.
            held_bytes_max: How many bytes of unfinished requests all of them may hold together.
        """
        self.waiting: Waiting[Client] = Waiting(limits_s)
        self._loop = loop
        self._look_every_s = min(_LOOK_EVERY_S, *(limit / 4 for limit in limits_s.values()))
        self._connections_max = connections_max
        self._open: set[Client] = set()
        self._held: HeldBytes[Client] = HeldBytes(held_bytes_max)
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_open_no_more = asyncio.Event()

    @property
    def open(self) -> Collection[Client]:
        """Those that are open."""
        return self._open

    def add(self, client: Client) -> None:
        """Take in a new connection that is in no phase yet: perhaps another one has to go, or this one."""
        self._open.add(client)
        if self._timer is None:
            self._timer = self._loop.call_later(self._look_every_s, self._look)
        if self._is_closed:
            client.abort()
        elif len(self._open) > self._connections_max:
            longest = self.waiting.longest()
            if longest is None:
                client.refuse_one_too_many()
            else:
                longest.make_way()

    def remove(self, client: Client) -> None:
        """Forget a connection that is closed, or closes by itself."""
        self._held.hold(client, 0)
        self.waiting.forget(client, client.phase)
        self._open.discard(client)
        if not self._open:
            self._is_open_no_more.set()

    def hold(self, client: Client, size: int) -> None:
        """Note how many bytes of an unfinished request a connection holds."""
        self._held.hold(client, size)
        while (first := self._held.excess()) is not None:
            first.refuse_unfinished()
            self._held.hold(first, 0)

    async def close(self, wait_s: float) -> bool:
        """Take no more, let the requests under way be answered, for at most ``wait_s``; return whether they all were.

        Then every connection is closed; who does not fetch an answer has a moment for it.
        """
        self._is_closed = True
        for client in list(self._open):
            client.stop()
        over_s = self._loop.time() + wait_s
        while self.waiting.are_any(Phase.ANSWERING) and self._loop.time() < over_s:
            await self._all_gone(min(_POLL_S, wait_s))
        are_answered = not self.waiting.are_any(Phase.ANSWERING)
        await self._all_gone(min(_FETCH_S, wait_s))
        for client in list(self._open):
            client.abort()
        if self._timer is not None:
            self._timer.cancel()
        return are_answered

    async def _all_gone(self, within_s: float) -> None:
        """Return when no connection is open any more, or after a time."""
        if self._open:
            self._is_open_no_more.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_open_no_more.wait(), within_s)

    def _look(self) -> None:
        """End what has lasted too long."""
        self._timer = self._loop.call_later(self._look_every_s, self._look) if self._open else None
        for client, phase in self.waiting.overdue(self._loop.time()):
            if client.phase is phase:
                client.be_late()
