"""Whose doing it is that a task is cancelled, and tasks that are not to end by themselves.

When a channel is closed, gRPC raises CancelledError in whoever waits for a call over it. To asyncio a task that ends of
that was cancelled in order: neither a TaskGroup nor ``wait`` says anything.
"""

import asyncio
from collections.abc import Awaitable, Callable


def is_cancelled() -> bool:
    """Whether somebody cancelled the running task; else a CancelledError in it is of a channel that was closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def until_cancelled(work: Callable[[], Awaitable[None]]) -> None:
    """Do what ends only when the running task is cancelled, or with an error.

    Raises:
        RuntimeError: It ended all the same; a bug, and nobody would do the work any more.
    """
    cause: BaseException | None = None
    try:
        await work()
    except asyncio.CancelledError as exc:
        if is_cancelled():
            raise
        cause = exc
    if not is_cancelled():
        task = asyncio.current_task()
        raise RuntimeError(f"{task.get_name() if task else work} ended without having been asked to") from cause
