"""Looks at the store on behalf of readers: whoever is settled is looked up, at whatever moment that happens."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import cast

import pytest

from shard.counting.keys import CopyRecord
from shard.engine.hour_parts import PartOfHour, Question
from shard.engine.points import goes_on
from shard.engine.reads import LOOKS_AT_ONCE, Reads
from shard.engine.redundancy import Redundancy
from shard.engine.slot_copy import SlotCopy
from shard.engine.steps import Outside, Steps, Work
from shard.replica.replica import Replica
from shard.replica.words import Effects, Stored
from shard.storage.disk import Disk
from tally.cluster.slot_map import SlotRow
from tally.hashing import Shape

INCARNATION = "ab" * 16
QUESTION = Question(1, (0,), (1,))


class GatedDisk:
    """A disk on which nothing is stored, and which answers when the test says so."""

    def __init__(self) -> None:
        self.looks: list[asyncio.Future[list[bytes | None]]] = []

    def get(self, keys: Sequence[bytes]) -> "asyncio.Future[list[bytes | None]]":
        self.looks.append(asyncio.get_running_loop().create_future())
        assert len(keys) == 1
        return self.looks[-1]

    def answer(self, number: int) -> None:
        self.looks[number].set_result([None])


def served_alone() -> SlotCopy:
    """Return the only copy of the only slot, which serves: its readers need no round."""
    replica = Replica("s1", Stored(), calls=count(1), incarnations=iter(()))
    replica.found(INCARNATION)
    replica.see_row(SlotRow(1, "s1", {"s1": INCARNATION}), wished=False, now=0.0, effects=Effects())
    copy = SlotCopy(0, replica, CopyRecord(1, bytes.fromhex(INCARNATION), 1))
    copy.term = replica.term
    return copy


def reads_on(disk: GatedDisk, work: Work) -> Reads:
    steps = Steps(cast(Outside, None), work, Redundancy("s1"), goes_on, lambda: "")
    shape = Shape(slots=1, spreads=((0, 1),), hours_together=1)
    return Reads([served_alone()], steps, work, disk=cast(Disk, disk), shape=shape)


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def after_steps(steps: int, act: Callable[[], None]) -> None:
    """Do something so many iterations of the event loop later, before the callbacks of what ended in the last one."""
    loop = asyncio.get_running_loop()
    loop.call_soon(act if steps == 0 else lambda: after_steps(steps - 1, act))


@pytest.mark.parametrize("steps", range(6))
async def test_question_that_is_settled_while_looks_end_is_looked_up(steps: int) -> None:
    """At whatever step: also when the looks found nothing more to do, and their done-callbacks are yet to run."""
    disk = GatedDisk()
    reads = reads_on(disk, Work())
    parts: list[asyncio.Future[PartOfHour]] = []
    for _ in range(LOOKS_AT_ONCE):
        parts.append(reads.ask(QUESTION))
        await settle()
    assert len(disk.looks) == LOOKS_AT_ONCE
    for number in range(LOOKS_AT_ONCE):
        disk.answer(number)
    after_steps(steps, lambda: parts.append(reads.ask(QUESTION)))
    await settle()
    for look in disk.looks[LOOKS_AT_ONCE:]:
        look.set_result([None])
    await settle()
    assert len(parts) == LOOKS_AT_ONCE + 1
    assert all(part.done() for part in parts)


async def test_questions_that_are_settled_while_enough_looks_are_under_way_share_the_next_one() -> None:
    disk = GatedDisk()
    reads = reads_on(disk, Work())
    for _ in range(LOOKS_AT_ONCE):
        reads.ask(QUESTION)
        await settle()
    late = [reads.ask(QUESTION) for _ in range(3)]
    await settle()
    assert len(disk.looks) == LOOKS_AT_ONCE
    disk.answer(0)
    await settle()
    assert len(disk.looks) == LOOKS_AT_ONCE + 1
    disk.answer(LOOKS_AT_ONCE)
    await settle()
    assert all(part.done() for part in late)
