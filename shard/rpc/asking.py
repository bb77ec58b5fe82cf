"""Brings what this shard's primaries ask of the controller to wherever it is, many requests at once.

Doubted requests go by themselves: the controller looks at somebody who may be silent before it answers them, and no
other slot is to wait for that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Request
from tally.cluster.trouble import Trouble
from tally.errors import TallyError
from tally.tasks import until_cancelled

GATHER_S: Final = 0.005
PAUSE_S: Final = 0.1  # After a failure.


class Asker:
    """Requests on their way. No answer is kept: what came of them stands in the map, and who misses it asks again."""

    def __init__(self, reader: ClusterReader, pass_on: Callable[[Sequence[Request]], Awaitable[None]]) -> None:
        """Prepare; ``pass_on`` raises a TallyError if the controller could not be asked."""
        self._free = _Lane(reader, pass_on)
        self._doubted = _Lane(reader, pass_on)

    def ask(self, request: Request) -> None:
        """Pass a request on soon."""
        (self._doubted if request.doubted else self._free).ask(request)

    async def run(self) -> None:
        """Pass requests on until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(until_cancelled(self._free.run), name="requests")
            group.create_task(until_cancelled(self._doubted.run), name="doubted requests")


class _Lane:
    """Requests that wait for each other: one call to the controller at a time."""

    def __init__(self, reader: ClusterReader, pass_on: Callable[[Sequence[Request]], Awaitable[None]]) -> None:
        self._reader = reader
        self._pass_on = pass_on
        self._waiting: dict[tuple[int, str], Request] = {}  # The newest of each slot and shard: bounded by these.
        self._wake = asyncio.Event()
        self._trouble = Trouble("asking the controller")

    def ask(self, request: Request) -> None:
        """Pass a request on soon."""
        self._waiting[request.slot, request.shard] = request
        self._wake.set()

    async def run(self) -> None:
        """Pass requests on until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)  # One cause makes many of them.
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                await self._pass_on(list(waiting.values()))
            except TallyError as exc:
                self._trouble.met(exc)
                await asyncio.sleep(PAUSE_S)
            else:
                self._trouble.over()
            self._reader.refresh_soon()
