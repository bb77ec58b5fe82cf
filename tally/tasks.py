"""Tasks that are not to end by themselves, tasks that nobody waits for, and whose doing it is that a task is cancelled.

No task ends unnoticed. Each is begun in one of these ways, and nowhere else:

    awaited           whoever begins it waits for it, and gets its error
    aside             nobody waits for it; that it failed is logged when it does
    kept_up           is begun again when it ends, after a pause, and that is logged
    until_cancelled   a child of a ``TaskGroup`` whose end ends the group, and with it the process

When a channel is closed, gRPC raises CancelledError in whoever waits for a call over it. To asyncio a task that ends of
that was cancelled in order: neither a TaskGroup nor ``wait`` says anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog

T = TypeVar("T")

PAUSE_S: Final = 0.5  # Before a task that ended is begun again.

log = structlog.get_logger()

_aside: Final[set["asyncio.Task[Any]"]] = set()  # The event loop itself forgets who is only waiting.


def is_cancelled() -> bool:
    """Whether somebody cancelled the running task; else a CancelledError in it is of a channel that was closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def answer_of(call: Awaitable[T]) -> T:
    """Wait for a call of gRPC, and pass on that the running task was cancelled meanwhile.

    gRPC returns the answer, or its own error, where a cancellation comes just as the call ends: asyncio then takes the
    cancellation for delivered, and who waits for the end of the task waits for ever.

    Raises:
        CancelledError: The running task was cancelled since the call began.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        answer = await call
    except Exception as exc:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from exc
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


def awaited(work: Coroutine[Any, Any, T], *, name: str) -> "asyncio.Task[T]":
    """Begin a task for whose end the caller waits, whatever happens to the caller meanwhile."""
    return asyncio.create_task(work, name=name)


def aside(work: Coroutine[Any, Any, T], *, name: str) -> "asyncio.Task[T]":
    """Begin a task beside the caller, who may forget it; if it fails, that is logged."""
    task = asyncio.create_task(work, name=name)
    _aside.add(task)
    task.add_done_callback(_aside_ended)
    return task


def _aside_ended(task: "asyncio.Task[Any]") -> None:
    _aside.discard(task)
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("task_failed", task=task.get_name(), exc_info=failure)


def kept_up(work: Callable[[], Awaitable[None]], *, name: str, pause_s: float = PAUSE_S) -> "asyncio.Task[None]":
    """Begin a task that does ``work`` until it is cancelled: again after a pause, if ``work`` ends or fails."""
    return aside(_again_and_again(work, name, pause_s), name=name)


async def _again_and_again(work: Callable[[], Awaitable[None]], name: str, pause_s: float) -> None:
    while True:
        try:
            await until_cancelled(work)
        except Exception:  # Whatever it was, nobody else does this work.
            log.exception("task_begins_again", task=name, after_s=pause_s)
        await asyncio.sleep(pause_s)


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
