"""Whose turn it is, and the line in the log that must not fill it."""

import asyncio
from typing import Any

from gateway.timing import AtMostOncePer, Turns


def test_one_passes_per_period_and_tells_of_those_held_back() -> None:
    warning = AtMostOncePer(60)
    assert [warning.passes(now) for now in (0, 1, 59.9, 60, 61, 200)] == [1, 0, 0, 3, 0, 2]


async def test_few_have_their_turn_at_a_time_and_the_loop_goes_on_between() -> None:
    turns, came = Turns(asyncio.get_running_loop(), 2), list[int]()
    for number in range(5):
        turns.add(lambda number=number: came.append(number))  # type: ignore[misc]
    for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        await asyncio.sleep(0)
        assert came == expected


async def test_turn_that_fails_takes_nobody_elses() -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    turns, came = Turns(loop, 2), list[str]()
    turns.add(lambda: came.append("before"))
    turns.add(lambda: came.remove("nobody"))
    turns.add(lambda: came.append("after"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert came == ["before", "after"]
    assert len(failures) == 1
