"""The engine with a slot whose other copy falls silent: the slots that are well do not notice."""

import asyncio
from pathlib import Path
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.engine.engine import QUEUE_EVENTS_MAX
from shard.engine.hour_parts import PartOfHour, Question
from shard.engine.refusals import Reason
from shard.replica.rounds import WAIT_MAX_S
from shard.replica.words import Answer, Confirm, Forward, Heads, Message, Verdict
from tally.client.counts import HourCounts
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.event import Event
from tally.hashing import first_slot_of
from tests.integration.test_engine import DIRECTORY, OK, SHARD, Bench, ObedientStore, a_map
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, BOB, sub_batch
from tests.support.events import HOUR, click, slot_of_event
from tests.support.waiting import until

OTHER: Final = "s1"
INCARNATION: Final = "cd" * 16
STUCK: Final = click("ann")
STUCK_SLOT: Final = slot_of_event(STUCK, SMALL)
ATTEMPTS: Final = 300


def well() -> Event:
    """Return an event of another slot."""
    return next(event for event in map(click, map(str, range(100))) if slot_of_event(event, SMALL) != STUCK_SLOT)


class WithBackup(Bench):
    """One slot has a second copy, on a shard that answers until it is told to be silent."""

    silent = False

    def call(self, shard: str, slot: int, call: int, message: Message) -> None:
        assert (shard, slot) == (OTHER, STUCK_SLOT)
        assert isinstance(message, Heads | Forward | Confirm)
        if not self.silent:
            answer = Answer(Verdict.OK, message.epoch, INCARNATION)
            asyncio.get_running_loop().call_soon(self.engine.calls.answered, shard, slot, call, answer)


async def node_with_a_stuck_slot(path: Path) -> WithBackup:
    """Return a node that serves all slots, and whose one backup has just fallen silent."""
    node = WithBackup(ObedientStore(path))
    rows = list(a_map().rows)
    rows[STUCK_SLOT] = SlotRow(1, SHARD, {SHARD: DIRECTORY, OTHER: INCARNATION})
    await node.serve(SlotMap(tuple(rows)))
    node.silent = True
    return node


async def end(node: Bench) -> None:
    node.working.cancel()
    await asyncio.gather(node.working, return_exceptions=True)
    node.engine.close()


async def test_reader_of_a_slot_that_is_well_does_not_wait_for_one_of_a_stuck_slot(tmp_path: Path) -> None:
    node = await node_with_a_stuck_slot(tmp_path)
    try:
        other = next(hour for hour in range(HOUR, HOUR + 480, 24) if first_slot_of(hour, SMALL) != STUCK_SLOT)
        everything = tuple(range(SMALL.spread_at(HOUR)))
        stuck = node.engine.reads.ask(Question(HOUR, everything, (1,) * len(everything)))
        answered = await asyncio.wait_for(node.engine.reads.ask(Question(other, (0,), (1,))), 1)
        assert answered == PartOfHour(HourCounts(0, 0, 0), {})
        assert not stuck.done()
        async with asyncio.timeout(WAIT_MAX_S + 2):
            assert set((await stuck).refused.values()) == {node_pb2.OUTCOME_NOT_READY}
        assert node.engine.refusing() == {STUCK_SLOT: Reason.READ_NOT_CONFIRMED}
    finally:
        await end(node)


async def test_attempts_at_a_stuck_slot_do_not_fill_the_queue_of_all(tmp_path: Path) -> None:
    node = await node_with_a_stuck_slot(tmp_path)
    try:
        many = sub_batch(ANN, 1, *[STUCK] * (QUEUE_EVENTS_MAX // ATTEMPTS))
        first = node.submit(many, slot=STUCK_SLOT)
        await until(lambda: node.store.flushes > 1)
        attempts = [node.submit(many, slot=STUCK_SLOT) for _ in range(ATTEMPTS // 2)]
        await asyncio.wait(attempts, timeout=WAIT_MAX_S + 2)
        assert {attempt.result()[0].outcome for attempt in attempts} == {node_pb2.OUTCOME_NOT_READY}
        assert node.engine.refusing() == {STUCK_SLOT: Reason.OP_NOT_COMMITTED}
        again = [node.submit(many, slot=STUCK_SLOT) for _ in range(ATTEMPTS)]
        event = well()
        assert await node.outcome(sub_batch(BOB, 1, event), slot=slot_of_event(event, SMALL)) == OK
        assert all(attempt.done() for attempt in again)
        assert not first.done()
        assert node.engine.queued_events == len(many.hours)
    finally:
        await end(node)
