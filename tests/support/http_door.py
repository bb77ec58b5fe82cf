"""The real HTTP door on a free port, and requests that are good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.app import App
from gateway.hot_lane import HotLane
from gateway.process import finish_requests
from gateway.protocol import HELD_BYTES_MAX, HttpServer
from tests.support.raw_http import HOST

TIMEOUT_S: Final = 0.2  # Of those time-outs that a test waits for.
PATIENT_S: Final = 30.0  # Of those that it does not.

TIMESTAMP: Final = "timestamp=1700000000000"
HOUR: Final = 1_700_000_000_000 // 3_600_000
GOOD: Final = f"/analytics?{TIMESTAMP}&user=ann&click"
# A good POST, but for the end of its head.
POST: Final = b"POST " + GOOD.encode() + b" HTTP/1.1\r\n" + HOST


@asynccontextmanager
async def serving(
    app: App,
    *,
    header_timeout_s: float = PATIENT_S,
    idle_timeout_s: float = PATIENT_S,
    connections: int = 100,
    held_bytes_max: int = HELD_BYTES_MAX,
    lane: HotLane | None = None,
) -> AsyncIterator[int]:
    """Serve ``app`` for a while, perhaps with another lane for hot requests; gives the port."""
    http = HttpServer(
        app,
        header_timeout_s=header_timeout_s,
        idle_timeout_s=idle_timeout_s,
        connections=connections,
        held_bytes_max=held_bytes_max,
    )
    if lane is not None:
        http.lane = lane
    listener = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await finish_requests(http, 1)
