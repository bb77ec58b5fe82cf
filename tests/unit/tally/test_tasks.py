"""Tasks that are cancelled from within, as by gRPC when it closes a channel."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tally.tasks import is_cancelled, until_cancelled


async def cancelled_from_within() -> None:
    raise asyncio.CancelledError


async def ends() -> None:
    return


async def lasts() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("work", [cancelled_from_within, ends])
async def test_child_that_ends_by_itself_ends_the_group_with_an_error(
    work: Callable[[], Awaitable[None]],
) -> None:

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(until_cancelled(work), name="reader")
            group.create_task(until_cancelled(lasts), name="asker")

    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(serve(), 5)
    assert raised.group_contains(RuntimeError, match="reader ended without")


async def test_child_that_is_cancelled_ends_quietly() -> None:
    async with asyncio.TaskGroup() as group:
        children = [group.create_task(until_cancelled(lasts)) for _ in range(2)]
        await asyncio.sleep(0)
        for child in [*children, group.create_task(until_cancelled(lasts))]:  # The last one has not begun.
            child.cancel()
    assert all(child.cancelled() for child in children)


async def test_time_that_has_run_out_is_a_cancellation_from_outside() -> None:
    seen: list[bool] = []

    async def noted() -> None:
        try:
            await lasts()
        except asyncio.CancelledError:
            seen.append(is_cancelled())
            raise

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await noted()
    assert seen == [True]
