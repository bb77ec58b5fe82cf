"""Waiting for what another process or task is about to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


async def until(holds: Callable[[], bool | Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Return as soon as ``holds`` does; raise ``TimeoutError`` if that takes longer than ``within_s``."""
    async with asyncio.timeout(within_s):
        while True:
            result = holds()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run these beside the block, and cancel them at its end; an error in one of them is raised then."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
