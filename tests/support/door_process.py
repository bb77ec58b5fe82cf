"""The HTTP door in a process of its own, so that its memory can be measured: counts at once, and never tells an hour.

    python -P -m tests.support.door_process HEADER_TIMEOUT_S CONNECTIONS

It prints its port.
"""

import asyncio
import sys

import uvloop

from gateway.app import App
from gateway.process import bound_kernel_buffers
from gateway.protocol import HttpServer
from tally import collector
from tally.client.counts import HourCounts
from tally.limits import raise_file_limit
from tests.support.memory_backend import MemoryBackend


class NeverTold(MemoryBackend):
    """Counts, but its readers wait for ever."""

    def read_hour(self, hour: int) -> "asyncio.Task[HourCounts]":
        """Wait."""
        return asyncio.create_task(self._never(hour))

    async def _never(self, _hour: int) -> HourCounts:
        never: asyncio.Future[HourCounts] = asyncio.get_running_loop().create_future()
        return await never


async def serve(header_timeout_s: float, connections: int) -> None:
    """Serve until killed."""
    http = HttpServer(App(NeverTold()), header_timeout_s=header_timeout_s, idle_timeout_s=3600, connections=connections)
    listener = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0, backlog=4096)
    bound_kernel_buffers(listener)
    print(listener.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - it tells who started it.
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    raise_file_limit()
    collector.settle()
    uvloop.run(serve(float(sys.argv[1]), int(sys.argv[2])))
