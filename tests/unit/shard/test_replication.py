"""What a shard does for other shards' copies, as far as it needs no socket."""

import asyncio
from collections.abc import Callable
from typing import cast

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import CopyRecord
from shard.engine.calls import Answered, Granted
from shard.engine.engine import Engine
from shard.replica.words import Message, Op
from shard.rpc.replication import Cloning
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
