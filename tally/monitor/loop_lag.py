"""How late the event loop is: whatever blocks it delays each request of the process by as much."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 0.05


async def watch(observe: Callable[[float], None]) -> None:
    """Tell ``observe``, until cancelled, how many seconds later than due each wake-up came."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        observe(max(0.0, loop.time() - due))
