"""Writers of a slot on a real store: more process starts than rows, what writers are told, data of older versions."""

import asyncio
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, WriterRow, known_key, record_key, writer_key
from shard.counting.labels import DAY_MS
from shard.counting.op import SubBatch
from shard.counting.writers import LIMITS, Answer
from shard.engine.refusals import Reason
from shard.storage.store import Store
from tally.client.counts import HourCounts
from tally.cluster.slot_map import SlotMap, SlotRow
from tests.integration.test_engine import DIRECTORY, SHARD, SLOT, Bench, a_map, bench
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, BOB, sub_batch
from tests.support.events import click, keyed

OK: Final = node_pb2.OUTCOME_OK
FORGOTTEN: Final = node_pb2.OUTCOME_FORGOTTEN
CLICK: Final = click("ann")
ONCE: Final = keyed(CLICK, "once")


async def ask(node: Bench, *, epoch: int = 1) -> tuple[int, int]:
    """Return the outcome and the opnum that a writer is told."""
    told: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    node.engine.tell_opnum(SLOT, epoch, lambda answer, _epoch, opnum: told.set_result((answer.outcome, opnum)))
    return await told


def told_by(node: Bench, batch: SubBatch) -> "asyncio.Future[tuple[int, int]]":
    """Send a sub-batch; the outcome and the opnum come with its answer."""
    told: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    def reply(answer: Answer, _epoch: int, opnum: int) -> None:
        told.set_result((answer.outcome, opnum))

    node.engine.submit(SLOT, 1, batch, reply)
    return told


async def test_more_process_starts_than_rows_leave_the_slot_open_to_old_and_new(tmp_path: Path) -> None:
    """A process that starts asks, sends one event, and is gone; one that was there before goes on all the time."""
    starts = LIMITS.rows + 2 * LIMITS.forgotten_at_once
    outcomes: Counter[int] = Counter()
    async with bench(tmp_path, a_map()) as node:
        first = sub_batch(b"first of them...", 1, CLICK, heard=0)
        assert await node.outcome(first) == OK
        for seq, begin in enumerate(range(0, starts, 250), 1):
            _, opnum = await ask(node)
            batches = [
                sub_batch(number.to_bytes(16, "big"), 1, CLICK, heard=opnum) for number in range(begin, begin + 250)
            ]
            outcomes.update(await asyncio.gather(*map(node.outcome, batches)))
            assert await node.outcome(sub_batch(ANN, seq, CLICK, heard=opnum)) == OK
        assert outcomes.keys() == {OK}
        assert await node.outcome(first) == FORGOTTEN
        assert (await node.counts()).clicks == 1 + outcomes[OK] + seq
    async with bench(tmp_path, a_map(epoch=2)) as node:
        assert await node.outcome(first) == FORGOTTEN, "also after a restart"
        _, opnum = await ask(node, epoch=2)
        assert await node.outcome(sub_batch(BOB, 1, CLICK, heard=opnum)) == OK


async def test_writer_is_told_how_many_ops_are_committed_and_never_of_one_that_is_under_way(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        assert await ask(node) == (OK, 0)
        assert await told_by(node, sub_batch(ANN, 1, CLICK)) == (OK, 1)
        node.store.may_flush.clear()
        flushes = node.store.flushes
        under_way = told_by(node, sub_batch(ANN, 2, CLICK, heard=1))
        while node.store.flushes == flushes:
            await asyncio.sleep(0)
        assert await ask(node) == (OK, 1)
        node.store.may_flush.set()
        assert await under_way == (OK, 2)
        assert await ask(node) == (OK, 2)
        assert await told_by(node, sub_batch(ANN, 2, CLICK, heard=1)) == (OK, 2)
        assert await told_by(node, sub_batch(BOB, 1, CLICK, heard=3)) == (FORGOTTEN, 2)


async def test_slot_that_refuses_somebody_is_told_for_a_while_with_the_reason(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        assert node.engine.refusing() == {}
        assert await node.outcome(sub_batch(BOB, 1, CLICK, heard=9)) == FORGOTTEN
        assert node.engine.refusing() == {SLOT: Reason.WRITER_FORGOTTEN}
        response = node_pb2.StatusResponse()
        node.engine.status(response)
        assert (list(response.refusing_slots), list(response.refusing_reasons)) == ([SLOT], ["writer_forgotten"])
        node.engine.room(takes_copies=False, takes_ops=False)
        assert set(node.engine.refusing().values()) == {Reason.DISK_FULL}
        node.engine.room(takes_copies=True, takes_ops=True)
        node.engine.take_map(a_map(epoch=2, primary="s9", incarnation="99" * 16))
        while node.engine.serving():
            await asyncio.sleep(0.01)
        assert node.engine.refusing() == {}, "another shard tells of it now"


async def test_slot_with_too_few_copies_for_writes_is_told_though_nobody_writes(tmp_path: Path) -> None:
    row = SlotRow(1, SHARD, {SHARD: DIRECTORY}, 2)
    async with bench(tmp_path, SlotMap((row,) * SMALL.slots)) as node:
        assert node.engine.refusing() == dict.fromkeys(range(SMALL.slots), Reason.FEW_COPIES)
        answer, _ = await node.submit(sub_batch(BOB, 1, CLICK))
        assert (answer.outcome, answer.reason) == (node_pb2.OUTCOME_NOT_READY, "few_copies")


async def test_who_does_not_serve_tells_no_opnum(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        assert await told_by(node, sub_batch(ANN, 1, CLICK)) == (OK, 1)
        assert await ask(node, epoch=2) == (node_pb2.OUTCOME_NOT_READY, 0)
        node.engine.take_map(a_map(epoch=2, primary="s9", incarnation="99" * 16))
        while node.engine.serving():
            await asyncio.sleep(0.01)
        assert await ask(node, epoch=2) == (node_pb2.OUTCOME_NOT_OWNER, 0)
    async with bench(tmp_path) as node:
        node.engine.take_map(a_map())
        while not node.asked:
            await asyncio.sleep(0.01)
        assert await ask(node) == (node_pb2.OUTCOME_NOT_READY, 0)


def make_format_2(path: Path, now_ms: int, *, writer: bytes, key: bytes) -> None:
    """Turn a store into what a version before floors and labels would have left: a writer, and a key of yesterday."""
    store = Store(path)
    (value,) = store.get([record_key(SLOT)])
    assert value is not None
    record = CopyRecord.decode(value)
    (row,) = store.get([writer_key(record.generation, writer)])
    assert row is not None
    last = WriterRow.decode(row)
    old_row = struct.pack(">QQ16s", last.seq, now_ms, last.content)
    day = now_ms // DAY_MS
    old_record = struct.pack(
        ">I16sQQQ16sIQQIQQ", *record[:6], record.writers, now_ms, now_ms, day, record.log_from, record.log_bytes
    )
    old_label = known_key(record.generation, record.label, key)
    puts = [
        (record_key(SLOT), old_record),
        (writer_key(record.generation, writer), old_row),
        (known_key(record.generation, day - 1, key), b""),
    ]
    store.write([Changes(puts, [old_label])])
    store.flush()
    store.close()


async def test_data_of_format_2_counts_nothing_twice_and_shuts_nobody_out(tmp_path: Path) -> None:
    last = sub_batch(ANN, 1, ONCE)
    async with bench(tmp_path, a_map()) as node:
        assert await node.outcome(last) == OK
    make_format_2(tmp_path, time.time_ns() // 1_000_000, writer=ANN, key=ONCE.key)
    async with bench(tmp_path, a_map(epoch=2)) as node:
        assert await node.outcome(last) == OK
        assert await ask(node, epoch=2) == (OK, 1)
        assert await node.outcome(sub_batch(BOB, 1, CLICK, ONCE, heard=1)) == OK
        assert await node.outcome(sub_batch(ANN, 2, CLICK, heard=1)) == OK
        assert await node.counts(epoch=2) == HourCounts(unique_users=1, clicks=3, impressions=0)
