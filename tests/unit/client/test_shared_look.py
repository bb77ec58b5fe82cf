"""Who shares a look with whom, and that nobody spoils it for the others."""

import asyncio

import pytest

from tally.client.shared_look import KEEP_S, SharedLook, Stage, may_share


class Looks:
    """Looks that wait for ``gate``, and fail while ``failure`` says so; each finds its own number."""

    def __init__(self) -> None:
        self.begun = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()

    async def look(self) -> list[str]:
        self.begun += 1
        number = self.begun
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return [f"look {number}"]


async def tick() -> None:
    """Let every task that can go on go on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("stage", "age", "expected"),
    [
        (Stage.UNDER_WAY, 0.0, True),
        (Stage.UNDER_WAY, 9.0, True),
        (Stage.FOUND, 0.0, True),
        (Stage.FOUND, 0.49, True),
        (Stage.FOUND, 0.5, False),
        (Stage.FAILED, 0.0, False),
    ],
)
def test_look_is_shared_while_it_is_under_way_or_what_it_found_is_new(
    stage: Stage, age: float, *, expected: bool
) -> None:
    assert may_share(stage, 7.0, 7.0 + age) is expected


async def test_who_asks_during_a_look_and_soon_after_it_began_shares_it() -> None:
    looks = Looks()
    shared = SharedLook(looks.look)
    asking = [asyncio.create_task(shared.ask(7.0)) for _ in range(100)]
    await tick()
    looks.gate.set()
    assert await asyncio.gather(*asking) == [["look 1"]] * 100
    assert await shared.ask(7.0 + KEEP_S - 0.01) == ["look 1"]
    assert await shared.ask(7.0 + KEEP_S) == ["look 2"]
    assert looks.begun == 2


async def test_first_who_asked_and_went_away_takes_nothing_from_the_others() -> None:
    looks = Looks()
    shared = SharedLook(looks.look)
    first, second = (asyncio.create_task(shared.ask(7.0)) for _ in range(2))
    await tick()
    first.cancel()
    await tick()
    third = asyncio.create_task(shared.ask(7.1))
    await tick()
    looks.gate.set()
    assert [await second, await third] == [["look 1"]] * 2
    assert first.cancelled()


async def test_look_that_failed_is_told_to_those_who_waited_and_not_kept() -> None:
    looks = Looks()
    shared = SharedLook(looks.look)
    looks.failure = ValueError("gone fishing")
    asking = [asyncio.create_task(shared.ask(7.0)) for _ in range(3)]
    await tick()
    looks.gate.set()
    assert await asyncio.gather(*asking, return_exceptions=True) == [looks.failure] * 3
    looks.failure = None
    assert await shared.ask(7.0) == ["look 2"]


async def test_close_lets_the_look_under_way_answer() -> None:
    looks = Looks()
    shared = SharedLook(looks.look)
    await shared.close()
    asking = asyncio.create_task(shared.ask(7.0))
    await tick()
    closing = asyncio.create_task(shared.close())
    await tick()
    assert not closing.done()
    looks.gate.set()
    await closing
    assert await asking == ["look 1"]
