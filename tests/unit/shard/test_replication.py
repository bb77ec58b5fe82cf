"""What a shard does for other shards' copies, as far as it needs no socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import CopyRecord
from shard.engine.calls import Answered, Granted
from shard.engine.engine import Engine
from shard.replica.words import Answer, Message, Op, Verdict
from shard.rpc.calls_wire import CALLS_MAX
from shard.rpc.replication import UNANSWERED_MAX, Cloning, ReplicateStream
from shard.storage.store import Snapshot


class OpenSnapshot:
    """Says whether somebody closed it."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class AskedEngine:
    """An engine, and its calls: grants a clone when the test says so."""

    def __init__(self) -> None:
        self.calls = self
        self.snapshot = OpenSnapshot()
        self.forgotten: list[int] = []
        self._answered: Answered | None = None

    def asked(self, _sender: str, _slot: int, _message: Message, answered: Answered) -> int:
        self._answered = answered
        return 7

    def forget(self, number: int) -> None:
        self.forgotten.append(number)

    async def beside(self, _call: Callable[[], object]) -> object:
        return None

    def grant(self) -> None:
        assert self._answered is not None
        self._answered(Granted(cast(Snapshot, self.snapshot), CopyRecord(1, bytes(16), 1), Op(), 1, None))


async def joining(engine: AskedEngine) -> "asyncio.Task[None]":
    """Return a joiner's call that waits for its answer."""

    async def call() -> None:
        async for _ in Cloning(cast(Engine, engine)).give("s2", node_pb2.CloneRequest(slot=0, incarnation=bytes(16))):
            pass

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    return task


async def test_snapshot_of_a_clone_is_closed_when_the_joiner_goes_just_as_it_is_granted() -> None:
    """The call is cancelled before it sees the answer that is there: else the snapshot would stay open for ever."""
    engine = AskedEngine()
    call = await joining(engine)
    engine.grant()
    call.cancel()
    await asyncio.wait([call])
    assert engine.snapshot.closed
    assert engine.forgotten == [7]


async def test_snapshot_of_a_clone_that_is_granted_after_the_joiner_went_is_closed() -> None:
    engine = AskedEngine()
    call = await joining(engine)
    call.cancel()
    await asyncio.wait([call])
    engine.grant()
    assert engine.snapshot.closed


async def test_snapshot_of_a_clone_is_closed_when_all_was_sent() -> None:
    engine = AskedEngine()
    call = await joining(engine)
    engine.grant()
    await asyncio.wait([call])
    assert engine.snapshot.closed


class SilentEngine:
    """An engine whose copies answer when the test says so."""

    def __init__(self) -> None:
        self.calls = self
        self.open: list[Answered] = []

    def asked(self, _sender: str, _slot: int, _message: Message, answered: Answered) -> int:
        self.open.append(answered)
        return len(self.open)


class Sender:
    """Sends messages one after the other; knows how many were taken."""

    def __init__(self, *messages: node_pb2.ReplicateRequest) -> None:
        self.messages = messages
        self.taken = 0

    async def requests(self) -> AsyncIterator[node_pb2.ReplicateRequest]:
        for message in self.messages:
            self.taken += 1
            yield message
        await asyncio.Event().wait()


def heads(*calls: int) -> node_pb2.ReplicateRequest:
    return node_pb2.ReplicateRequest(heads=[node_pb2.HeadsCall(call=call, slot=0, epoch=1) for call in calls])


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_call_number_that_is_open_already_is_no_other_call() -> None:
    engine, sender = SilentEngine(), Sender(heads(1, 1, 2), heads(2, 3))
    taking = asyncio.create_task(ReplicateStream(cast(Engine, engine), "s2", 1).take_in(sender.requests()))
    await settle()
    assert len(engine.open) == 3
    taking.cancel()


async def test_call_without_a_number_and_one_for_no_slot_are_left_out() -> None:
    engine = SilentEngine()
    other_slot = node_pb2.ReplicateRequest(confirms=[node_pb2.ConfirmCall(call=1, slot=1, epoch=1)])
    sender = Sender(heads(0), other_slot)
    taking = asyncio.create_task(ReplicateStream(cast(Engine, engine), "s2", 1).take_in(sender.requests()))
    await settle()
    assert (sender.taken, engine.open) == (2, [])
    taking.cancel()


async def test_who_sends_without_taking_answers_is_not_read_from_until_he_does() -> None:
    portion = UNANSWERED_MAX // 2
    engine = SilentEngine()
    sender = Sender(*(heads(*range(1 + portion * turn, 1 + portion * (turn + 1))) for turn in range(4)))
    stream = ReplicateStream(cast(Engine, engine), "s2", 1)
    taking = asyncio.create_task(stream.take_in(sender.requests()))
    await settle()
    assert sender.taken == 2
    for answered in engine.open:
        answered(Answer(Verdict.OK, 1, "ab" * 16))
    await settle()
    assert sender.taken == 2  # Answered, and not taken.
    answers = stream.answers()
    while sender.taken < 4:
        await anext(answers)
        await settle()
    taking.cancel()


async def test_call_that_gets_no_answer_makes_room() -> None:
    engine, sender = SilentEngine(), Sender(heads(*range(1, UNANSWERED_MAX + 1)), heads(1))
    taking = asyncio.create_task(ReplicateStream(cast(Engine, engine), "s2", 1).take_in(sender.requests()))
    await settle()
    assert sender.taken == 1
    engine.open[0](None)
    await settle()
    assert (sender.taken, len(engine.open)) == (2, UNANSWERED_MAX + 1)
    taking.cancel()


async def test_message_of_more_calls_than_there_can_be_ends_the_stream() -> None:
    engine, sender = SilentEngine(), Sender(heads(*range(1, CALLS_MAX + 2)))
    await ReplicateStream(cast(Engine, engine), "s2", 1).take_in(sender.requests())
    assert engine.open == []
