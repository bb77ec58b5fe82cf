"""Tasks that are cancelled from within, as by gRPC when it closes a channel."""

import ast
import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tally.tasks import answer_of, aside, is_cancelled, kept_up, until_cancelled

ROOT = Path(__file__).parents[3]


async def cancelled_from_within() -> None:
    raise asyncio.CancelledError


async def ends() -> None:
    return


async def raises() -> None:
    raise ValueError


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


@pytest.mark.parametrize("work", [cancelled_from_within, ends, raises])
async def test_work_that_ends_by_itself_is_begun_again_and_that_is_logged(work: Callable[[], Awaitable[None]]) -> None:
    begun, enough = 0, asyncio.Event()

    async def begins() -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            enough.set()
            await lasts()
        await work()

    with capture_logs() as lines:
        task = kept_up(begins, name="link to s1", pause_s=0)
        await asyncio.wait_for(enough.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    told = [(line["event"], line["task"], line["log_level"]) for line in lines]
    assert told == [("task_begins_again", "link to s1", "error")] * 2


async def test_task_that_nobody_waits_for_lives_to_its_end_and_its_failure_is_logged_at_once() -> None:
    done = asyncio.Event()

    async def fails() -> None:
        await asyncio.sleep(0)
        done.set()
        raise ValueError("why")

    with capture_logs() as lines:
        aside(fails(), name="hint")
        gc.collect()  # The event loop knows tasks by weak references only.
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.sleep(0)
    (line,) = lines
    assert (line["event"], line["task"], repr(line["exc_info"])) == ("task_failed", "hint", "ValueError('why')")


def test_every_task_is_begun_in_one_of_the_ways_that_notice_its_end() -> None:
    bare = [
        place
        for package in ("gateway", "shard", "tally")
        for path in (ROOT / package).rglob("*.py")
        if path != ROOT / "tally" / "tasks.py"
        for place in bare_tasks(path)
    ]
    assert bare == []


def bare_tasks(path: Path) -> Iterator[str]:
    """Give where a file begins a task of its own; the child of a group is allowed if its end ends the group."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or _name(node.func) not in {"create_task", "ensure_future"}:
            continue
        begun = node.args[0]
        if not (isinstance(begun, ast.Call) and _name(begun.func) == "until_cancelled"):
            yield f"{path}:{node.lineno}"


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


async def ends_when_it_is_cancelled(failure: Exception | None) -> str:
    """Stand in for a call of gRPC that ends at the very moment at which its caller is cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if failure is not None:
            raise failure from None
    return "answer"


@pytest.mark.parametrize("failure", [None, ConnectionError("lost")])
async def test_cancellation_that_a_call_swallows_as_it_ends_is_not_lost(failure: Exception | None) -> None:
    async def work() -> str:
        return await answer_of(ends_when_it_is_cancelled(failure))

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_calls_of_who_was_cancelled_before_are_answered() -> None:
    """What is cleaned up after a cancellation needs its calls."""

    async def cleans_up() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await answer_of(asyncio.sleep(0, "cleaned up"))
        return ""

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cleaned up"
