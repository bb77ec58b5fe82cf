"""Hints are given in the background, and not more often than makes sense."""

import asyncio
from collections.abc import Mapping

from tally.cluster.controller.hints import MapHints, SwitchHints, by_primary
from tally.cluster.planning.placement import first_map
from tests.support.cluster_values import members
from tests.support.waiting import until


def test_switches_are_grouped_by_who_is_asked() -> None:
    held = first_map(4, members(2))
    assert by_primary(held, {3: "s0", 0: "s1", 2: "s1"}) == {
        held.rows[0].primary: {0: "s1", 2: "s1"},
        held.rows[3].primary: {3: "s0"},
    }


async def test_hints_of_the_map_that_come_while_one_is_given_become_one_more() -> None:
    begun = 0
    go_on = asyncio.Event()

    async def hint() -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()
        raise ConnectionError("away")

    hints = MapHints(hint)
    hints.give()
    await until(lambda: begun == 1)
    for _ in range(5):
        hints.give()
    go_on.set()
    await until(lambda: hints._task is not None and hints._task.done())
    assert begun == 2
    hints.give()
    await until(lambda: begun == 3)
    await hints.close()


async def test_switches_are_not_given_twice_at_the_same_time_nor_too_often() -> None:
    given: list[tuple[str, str, Mapping[int, str]]] = []
    go_on = asyncio.Event()

    async def give(address: str, shard: str, switches: Mapping[int, str]) -> None:
        given.append((address, shard, switches))
        await go_on.wait()
        raise ConnectionError("away")

    hints = SwitchHints(give, repeat_s=3600)
    hints.give("s0", "a:0", {1: "s1"})
    hints.give("s0", "a:0", {2: "s1"})  # The first is under way.
    hints.give("s1", "a:1", {3: "s0"})
    go_on.set()
    await until(lambda: not hints._under_way)
    hints.give("s0", "a:0", {1: "s1"})  # Said just now.
    hints.give("s1", "a:1", {4: "s0"})
    await until(lambda: not hints._under_way)
    assert given == [("a:0", "s0", {1: "s1"}), ("a:1", "s1", {3: "s0"}), ("a:1", "s1", {4: "s0"})]
    await hints.close()
