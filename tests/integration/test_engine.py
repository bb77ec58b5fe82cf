"""The engine on a real store, without a network: what is counted, what is durable, what readers see meanwhile."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from protos.tally.internal.v1 import node_pb2
from shard.counting.changes import Changes
from shard.counting.keys import cell_key
from shard.counting.op import SubBatch
from shard.counting.writers import Answer
from shard.engine import engine as engine_module
from shard.engine.engine import Engine
from shard.engine.hour_parts import PartOfHour, Question
from shard.replica.words import Heads, Message
from shard.storage import disk
from shard.storage.store import Store
from tally.client.counts import HourCounts
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import bucket_of
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, BOB, sub_batch
from tests.support.events import HOUR, click, impression, slot_of_event, users_of_slot
from tests.support.waiting import until

SHARD: Final = "s0"
DIRECTORY: Final = "ab" * 16
SLOT: Final = slot_of_event(click("ann"), SMALL)
BUCKET: Final = bucket_of(HOUR, b"ann", SMALL)
PATIENT_S: Final = 10.0

OK = node_pb2.OUTCOME_OK
NOT_OWNER = node_pb2.OUTCOME_NOT_OWNER
NOT_READY = node_pb2.OUTCOME_NOT_READY


class ObedientStore(Store):
    """A store that flushes and reads only when it may."""

    def __init__(self, path: Path) -> None:
        self.may_flush, self.may_get = threading.Event(), threading.Event()
        self.may_flush.set()
        self.may_get.set()
        self.flushes = self.gets = 0  # Begun.
        super().__init__(path)

    def flush(self) -> None:
        self.flushes += 1
        assert self.may_flush.wait(PATIENT_S)
        super().flush()

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.gets += 1
        assert self.may_get.wait(PATIENT_S)
        return super().get(keys)

    def release(self) -> None:
        self.may_flush.set()
        self.may_get.set()


def a_map(*, epoch: int = 1, primary: str = SHARD, incarnation: str = DIRECTORY) -> SlotMap:
    """Return a map in which one shard has every slot."""
    return SlotMap((SlotRow(epoch, primary, {primary: incarnation}),) * SMALL.slots)


class Bench:
    """An engine, and who asks it; there is no other shard. It is the engine's ``Outside`` too."""

    def __init__(self, store: ObedientStore, *, founded: bool = False) -> None:
        self.store = store
        self.rereads = 0
        self.asked: list[Request] = []
        self.founded = 0
        self.engine = Engine(
            store,
            shard=SHARD,
            directory=DIRECTORY,
            shape=SMALL,
            outside=self,
            process=lambda: "p0",
            mark_founded=self._note_founded,
            founded=founded,
        )
        self.working = asyncio.create_task(self.engine.run())

    def call(self, shard: str, slot: int, call: int, message: Message) -> None:  # noqa: ARG002
        raise AssertionError(f"{message} to {shard}")

    def ask(self, request: Request) -> None:
        self.asked.append(request)

    def reread_map(self) -> None:
        self.rereads += 1

    def _note_founded(self) -> None:
        self.founded += 1

    async def serve(self, held: SlotMap) -> None:
        """Take a map and wait until it is served."""
        self.engine.take_map(held)
        wanted = dict(enumerate(row.epoch for row in held.rows))
        await until(lambda: self.engine.serving() == wanted)

    def submit(self, batch: SubBatch, *, slot: int = SLOT, epoch: int = 1) -> "asyncio.Future[tuple[Answer, int]]":
        answered: asyncio.Future[tuple[Answer, int]] = asyncio.get_running_loop().create_future()
        self.engine.submit(slot, epoch, batch, lambda answer, known, _opnum: answered.set_result((answer, known)))
        return answered

    async def outcome(self, batch: SubBatch, *, slot: int = SLOT, epoch: int = 1) -> int:
        async with asyncio.timeout(PATIENT_S):
            answer, _ = await self.submit(batch, slot=slot, epoch=epoch)
        return answer.outcome

    async def part(self, *, epoch: int = 1) -> PartOfHour:
        """Read the one bucket of the hour that ann is in."""
        return await self.engine.reads.ask(Question(HOUR, (BUCKET,), (epoch,)))

    async def counts(self, *, epoch: int = 1) -> HourCounts:
        part = await self.part(epoch=epoch)
        assert not part.refused
        return part.counts


@asynccontextmanager
async def bench(path: Path, held: SlotMap | None = None, *, founded: bool = False) -> AsyncIterator[Bench]:
    """Run an engine on the store in a directory; it serves ``held`` if that is given."""
    opened = Bench(ObedientStore(path), founded=founded)
    try:
        if held is not None and (before := held.rows[0].epoch - 1):
            # A process that comes back asks for a new term first.
            opened.engine.take_map(a_map(epoch=before))
            await until(lambda: len(opened.asked) == SMALL.slots)
        if held is not None:
            await opened.serve(held)
        yield opened
    finally:
        opened.store.release()
        opened.working.cancel()
        await asyncio.gather(opened.working, return_exceptions=True)
        opened.engine.close()


async def test_events_are_counted_once_they_are_acknowledged(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        assert await node.outcome(sub_batch(ANN, 1, click("ann"), click("ann"), impression("ann"))) == OK
        assert await node.counts() == HourCounts(unique_users=1, clicks=2, impressions=1)


async def test_directory_that_was_founded_before_begins_no_copy_by_a_first_map_that_was_made_again(
    tmp_path: Path,
) -> None:
    """Its copies may have moved away, and an empty one would pass for one that has the data."""
    async with bench(tmp_path, founded=True) as node:
        node.engine.take_map(a_map())
        await asyncio.sleep(0.2)
        assert (node.engine.serving(), node.founded) == ({}, 0)
        assert await node.engine.found_copy(SLOT, b"\xee" * 16)  # An operator's word still counts.
        node.engine.take_map(a_map(epoch=2, incarnation="ee" * 16))
        await until(lambda: node.engine.serving() == {SLOT: 2})
        assert node.founded == 0


async def test_copy_that_is_missing_beside_others_is_not_founded(tmp_path: Path) -> None:
    others = SlotMap((*a_map().rows[:-1], SlotRow(2, "s9", {"s9": "99" * 16})))
    async with bench(tmp_path) as node:
        node.engine.take_map(others)
        await until(lambda: len(node.engine.serving()) == SMALL.slots - 1)
    async with bench(tmp_path) as node:
        node.engine.take_map(a_map())
        await asyncio.sleep(0.2)
        response = node_pb2.StatusResponse()
        node.engine.status(response)
        assert SMALL.slots - 1 not in {copy.slot for copy in response.copies}
        assert node.founded == 0


async def test_status_tells_the_whole_name_of_a_head_and_the_same_after_a_restart(tmp_path: Path) -> None:
    """Two heads are compared by epoch first: more ops of an older one are less."""
    heads = []
    for epoch in (1, 2, 3):
        async with bench(tmp_path, a_map(epoch=epoch)) as node:
            if epoch < 3:
                assert await node.outcome(sub_batch(ANN, epoch, click("ann"))) == OK
            response = node_pb2.StatusResponse()
            node.engine.status(response)
            heads.append(next(copy.head for copy in response.copies if copy.slot == SLOT))
    assert [(head.epoch, head.opnum, len(head.digest)) for head in heads] == [(1, 1, 16), (2, 2, 16), (2, 2, 16)]
    assert heads[1].digest == heads[2].digest


async def test_buckets_of_an_hour_add_up(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        for number in range(20):
            event = click(f"u{number}")
            slot = slot_of_event(event, SMALL)
            assert await node.outcome(sub_batch(number.to_bytes(16, "big"), 1, event), slot=slot) == OK
        first = await node.engine.reads.ask(Question(HOUR, range(4), (1,) * 4))
        assert first == PartOfHour(HourCounts(20, 20, 0), {})
        empty = await node.engine.reads.ask(Question(HOUR + 1, range(4), (1,) * 4))
        assert empty == PartOfHour(HourCounts(0, 0, 0), {})


async def test_questions_that_come_together_share_a_look_at_the_store(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        gets = node.store.gets
        questions = [Question(HOUR + number, range(4), (1,) * 4) for number in range(10)]
        await asyncio.gather(*(node.engine.reads.ask(question) for question in questions))
        assert node.store.gets == gets + 1


async def test_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    first = sub_batch(ANN, 1, click("ann"))
    async with bench(tmp_path, a_map()) as node:
        assert await node.outcome(first) == OK
    async with bench(tmp_path, a_map(epoch=2)) as node:
        assert await node.counts() == HourCounts(1, 1, 0)
        assert await node.outcome(first) == OK
        assert await node.counts() == HourCounts(1, 1, 0)
        assert await node.outcome(sub_batch(ANN, 3, click("ann"))) == node_pb2.OUTCOME_OUT_OF_ORDER
        assert await node.outcome(sub_batch(ANN, 2, click("ann"))) == OK
        assert await node.counts() == HourCounts(1, 2, 0)


async def test_refused_events_have_the_same_answer_after_a_restart(tmp_path: Path) -> None:
    batch = sub_batch(ANN, 1, click(""), click("ann"))
    answers = []
    for epoch in (1, 2):
        async with bench(tmp_path, a_map(epoch=epoch)) as node:
            answers.append(await node.submit(batch))
            assert await node.counts() == HourCounts(1, 1, 0)
    assert answers == [(Answer(OK, bytes([2, 0])), epoch) for epoch in (1, 2)]


async def test_restarted_primary_asks_for_a_new_term_before_it_serves(tmp_path: Path) -> None:
    """Rule 4: what it sent in the epoch that it holds may be anywhere."""
    async with bench(tmp_path, a_map()) as node:
        await node.outcome(sub_batch(ANN, 1, click("ann")))
    async with bench(tmp_path) as node:
        node.engine.take_map(a_map())
        await until(lambda: len(node.asked) >= SMALL.slots)
        assert Request(Change.TERM, SLOT, 1, SHARD, DIRECTORY, "p0") in node.asked
        assert await node.outcome(sub_batch(ANN, 2, click("ann"))) == NOT_READY
        assert node.engine.serving() == {}


async def test_nothing_is_acknowledged_before_it_is_flushed(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        node.store.may_flush.clear()
        flushes = node.store.flushes
        answered = node.submit(sub_batch(ANN, 1, click("ann")))
        repeated = node.submit(sub_batch(ANN, 1, click("ann")))
        await until(lambda: node.store.flushes > flushes)
        assert not answered.done()
        assert not repeated.done()
        node.store.release()
        assert (await answered, await repeated) == ((Answer(OK), 1), (Answer(OK), 1))


async def test_reads_neither_see_an_op_under_way_nor_wait_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        await node.outcome(sub_batch(ANN, 1, click("ann")))
        node.store.may_flush.clear()
        flushes = node.store.flushes
        answered = node.submit(sub_batch(ANN, 2, click("ann"), impression("ann")))
        await until(lambda: node.store.flushes > flushes)
        assert await node.counts() == HourCounts(1, 1, 0)
        node.store.release()
        await answered
        assert await node.counts() == HourCounts(1, 2, 1)


async def test_slots_that_are_ready_together_share_a_flush(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        flushes = node.store.flushes
        users = {slot_of_event(click(f"u{number}"), SMALL): f"u{number}" for number in range(20)}
        answers = [node.submit(sub_batch(ANN, 1, click(user)), slot=slot) for slot, user in users.items()]
        assert [answer.outcome for answer, _ in await asyncio.gather(*answers)] == [OK] * len(users)
        assert len(users) == 4
        assert node.store.flushes == flushes + 1


async def test_user_is_counted_once_when_two_writers_bring_it_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        answers = [node.submit(sub_batch(writer, 1, click("ann"))) for writer in (ANN, BOB)]
        await asyncio.gather(*answers)
        assert await node.counts() == HourCounts(1, 2, 0)


async def test_before_there_is_a_map_nothing_is_served(tmp_path: Path) -> None:
    async with bench(tmp_path) as node:
        assert await node.outcome(sub_batch(ANN, 1, click("ann"))) == NOT_READY
        assert (await node.part()).refused == {BUCKET: NOT_READY}
        assert node.engine.serving() == {}


async def test_slot_of_another_shard_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as node:
        node.engine.take_map(a_map(primary="s1"))
        await asyncio.sleep(0)
        await until(lambda: node.engine._wanted_map is None)
        assert await node.outcome(sub_batch(ANN, 1, click("ann"))) == NOT_OWNER
        assert (await node.part()).refused == {BUCKET: NOT_OWNER}


async def test_newer_epoch_is_stored_and_served(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        await node.outcome(sub_batch(ANN, 1, click("ann")))
        await node.serve(a_map(epoch=2))
        assert await node.outcome(sub_batch(ANN, 2, click("ann")), epoch=2) == OK
        assert await node.counts(epoch=2) == HourCounts(1, 2, 0)
    async with bench(tmp_path, a_map(epoch=3)) as node:
        assert await node.counts(epoch=3) == HourCounts(1, 2, 0)


async def test_sender_with_an_older_map_is_served(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map(epoch=1)) as node:
        await node.serve(a_map(epoch=2))
        assert await node.submit(sub_batch(ANN, 1, click("ann")), epoch=1) == (Answer(OK), 2)
        assert await node.counts(epoch=1) == HourCounts(1, 1, 0)


async def test_older_map_than_the_stored_epoch_is_not_served_after_a_restart(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map(epoch=1)) as node:
        await node.serve(a_map(epoch=2))
    async with bench(tmp_path) as node:
        node.engine.take_map(a_map(epoch=1))
        await until(lambda: node.engine._wanted_map is None)
        assert await node.outcome(sub_batch(ANN, 1, click("ann"))) == NOT_READY
        assert node.engine.serving() == {}
        await node.serve(a_map(epoch=3))


async def test_copy_that_the_map_does_not_mean_is_not_served(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        await node.outcome(sub_batch(ANN, 1, click("ann")))
    async with bench(tmp_path) as node:
        node.engine.take_map(a_map(epoch=2, incarnation="cd" * 16))
        await until(lambda: node.engine._wanted_map is None)
        assert await node.outcome(sub_batch(ANN, 2, click("ann")), epoch=2) == NOT_READY
        assert (await node.part(epoch=2)).refused == {BUCKET: NOT_READY}


async def test_sender_with_a_newer_map_makes_the_shard_read_it(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        assert await node.outcome(sub_batch(ANN, 1, click("ann")), epoch=2) == NOT_READY
        assert node.rereads == 1
        assert (await node.part(epoch=2)).refused == {BUCKET: NOT_READY}
        assert node.rereads == 2


async def test_new_map_is_taken_up_however_much_there_is_to_do(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        last: list[tuple[int, Answer]] = []

        def send(seq: int) -> None:
            node.engine.submit(
                SLOT, 1, sub_batch(ANN, seq, click("ann")), lambda answer, _epoch, _opnum: and_the_next(seq, answer)
            )

        def and_the_next(seq: int, answer: Answer) -> None:
            last[:] = [(seq, answer)]
            if answer.outcome == OK:
                send(seq + 1)

        send(1)
        await until(lambda: bool(last) and last[0][0] > 3)
        node.engine.take_map(a_map(epoch=2))
        await until(lambda: node.engine.serving().get(SLOT) == 2)
        assert last[0][1].outcome == OK


async def test_queue_goes_on_in_the_next_term_of_the_same_primary(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        node.store.may_flush.clear()
        flushes = node.store.flushes
        under_way = node.submit(sub_batch(ANN, 1, click("ann")))
        await until(lambda: node.store.flushes > flushes)
        queued = node.submit(sub_batch(BOB, 1, click("ann")))
        node.engine.take_map(a_map(epoch=2))
        node.store.release()
        assert await under_way == (Answer(OK), 1)
        assert (await queued)[0] == Answer(OK)
        await until(lambda: node.engine.serving().get(SLOT) == 2)
        assert await node.counts(epoch=2) == HourCounts(1, 2, 0)


async def test_read_whose_term_ended_meanwhile_shows_nothing_of_the_next_one(tmp_path: Path) -> None:
    """The op of the new term is written and not durable: a crash could take back what the read would tell."""
    async with bench(tmp_path, a_map()) as node:
        node.store.may_get.clear()
        gets = node.store.gets
        reading = asyncio.create_task(node.part())
        await until(lambda: node.store.gets > gets)
        await node.serve(a_map(epoch=2))
        node.store.may_flush.clear()
        flushes = node.store.flushes
        answered = node.submit(sub_batch(ANN, 1, click("ann")), epoch=2)
        node.store.may_get.set()
        part = await reading
        assert part == PartOfHour(HourCounts(0, 0, 0), {BUCKET: NOT_READY})
        await until(lambda: node.store.flushes > flushes)
        node.store.release()
        assert await answered == (Answer(OK), 2)


async def test_full_queue_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "QUEUE_EVENTS_MAX", 2)
    async with bench(tmp_path, a_map()) as node:
        accepted = node.submit(sub_batch(ANN, 1, click("ann"), click("ann")))
        answer, _ = await node.submit(sub_batch(BOB, 1, click("ann")))
        assert answer == Answer(NOT_READY, reason="queue_full")
        await accepted
        assert await node.outcome(sub_batch(BOB, 1, click("ann"))) == OK


async def test_shard_on_a_full_disk_takes_no_events_and_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        for copies, ops in ((True, True), (False, True), (False, False), (True, True)):
            node.engine.room(takes_copies=copies, takes_ops=ops)
            status = node_pb2.StatusResponse()
            node.engine.status(status)
            assert (status.disk_full, status.takes_no_events) == (not copies, not ops)
            answer, _ = await node.submit(sub_batch(ANN, 1, click("ann")))
            assert answer == (Answer(OK) if ops else Answer(NOT_READY, reason="disk_full"))


async def test_shard_on_a_full_disk_sends_on_who_looks_for_another_primary(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        node.engine.room(takes_copies=False, takes_ops=False)
        node.engine.take_map(a_map(epoch=2, primary="s9", incarnation="99" * 16))
        while node.engine.serving():
            await asyncio.sleep(0.01)
        answer, _ = await node.submit(sub_batch(ANN, 1, click("ann")))
        assert answer == Answer(node_pb2.OUTCOME_NOT_OWNER)


async def test_more_than_one_op_is_done_one_after_the_other(tmp_path: Path) -> None:
    users = users_of_slot(SLOT, 1500, SMALL)
    async with bench(tmp_path, a_map()) as node:
        first = node.submit(sub_batch(ANN, 1, *map(click, users[:1000])))
        second = node.submit(sub_batch(BOB, 1, *map(click, users[500:])))
        assert [answer.outcome for answer, _ in await asyncio.gather(first, second)] == [OK, OK]
        assert await node.counts() == HourCounts(1500, 2000, 0)


async def test_what_finds_no_room_in_an_op_is_not_forgotten_when_somebody_reads_meanwhile(tmp_path: Path) -> None:
    users = users_of_slot(SLOT, 1600, SMALL)
    async with bench(tmp_path, a_map()) as node:
        node.store.may_flush.clear()
        flushes = node.store.flushes
        answers = [node.submit(sub_batch(ANN, 1, click(users[0])))]
        await until(lambda: node.store.flushes > flushes)
        answers += [
            node.submit(sub_batch(writer, 1, *map(click, some)))
            for writer, some in ((b"w" * 16, users[:800]), (b"x" * 16, users[800:]))
        ]
        node.store.may_flush.set()
        await answers[0]
        node.store.may_flush.clear()
        assert (await node.part()).refused == {}
        answers.append(node.submit(sub_batch(BOB, 1, click(users[0]))))
        node.store.release()
        async with asyncio.timeout(PATIENT_S):
            assert {answer.outcome for answer, _ in await asyncio.gather(*answers)} == {OK}
        assert await node.counts() == HourCounts(1600, 1602, 0)


async def failure(node: Bench) -> BaseException | None:
    """Wait for the end of the engine; return why it ended."""
    await asyncio.wait([node.working], timeout=PATIENT_S)
    assert node.working.done()
    return node.working.exception()


async def test_failed_flush_ends_the_engine_and_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, a_map()) as node:

        def fail() -> None:
            raise StoreFailed("the disk is gone")

        monkeypatch.setattr(node.store, "flush", fail)
        answered = node.submit(sub_batch(ANN, 1, click("ann")))
        assert isinstance(await failure(node), StoreFailed)
        assert not answered.done()


async def test_flush_without_an_end_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path, a_map()) as node:
        monkeypatch.setattr(disk, "DISK_MAX_S", 0.05)
        node.store.may_flush.clear()
        answered = node.submit(sub_batch(ANN, 1, click("ann")))
        assert isinstance(await failure(node), StoreFailed)
        assert not answered.done()


async def test_disk_that_fails_beside_the_worker_ends_the_engine(tmp_path: Path) -> None:
    """A clone for another shard is read there; its caller gets the error, and so must the process."""
    async with bench(tmp_path, a_map()) as node:

        def fail() -> None:
            raise StoreCorrupt("a block")

        with pytest.raises(StoreCorrupt):
            await node.engine.beside(fail)
        assert isinstance(await failure(node), StoreCorrupt)


async def test_step_that_fails_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules may know by then of what is not written."""
    async with bench(tmp_path, a_map()) as node:

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(node.engine._copies[SLOT].replica, "submit", fail)
        with suppress(ZeroDivisionError):  # Not at once, if the copy is busy.
            node.submit(sub_batch(ANN, 1, click("ann")))
        assert isinstance(await failure(node), ZeroDivisionError)


async def test_counts_that_can_not_be_read_end_the_engine_and_are_told_to_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        await node.outcome(sub_batch(ANN, 1, click("ann")))
        record = node.engine._copies[SLOT].record
        assert record is not None
        node.store.write([Changes([(cell_key(record.generation, HOUR, BUCKET), b"garbage")])])
        assert (await node.part()).refused == {BUCKET: NOT_READY}
        assert isinstance(await failure(node), StoreCorrupt)


async def test_disk_is_proved_by_a_flush_unless_there_was_one_just_now(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        await node.outcome(sub_batch(ANN, 1, click("ann")))
        flushes = node.store.flushes
        await node.engine.prove_disk(PATIENT_S)
        assert node.store.flushes == flushes
        await asyncio.wait_for(node.engine.prove_disk(-1.0), PATIENT_S)
        assert node.store.flushes == flushes + 1


async def test_disk_that_does_not_flush_is_not_proved(tmp_path: Path) -> None:
    async with bench(tmp_path, a_map()) as node:
        node.store.may_flush.clear()
        flushes = node.store.flushes
        proving = asyncio.create_task(node.engine.prove_disk(-1.0))
        await until(lambda: node.store.flushes > flushes)
        assert not proving.done()
        node.store.release()
        await asyncio.wait_for(proving, PATIENT_S)


async def test_term_that_another_copy_ends_is_told_as_refused_and_one_that_the_map_ends_is_not(tmp_path: Path) -> None:
    status = node_pb2.StatusResponse()
    async with bench(tmp_path, a_map()) as node:
        await node.serve(a_map(epoch=2))
        node.engine.status(status)
        assert status.redundancy.terms_refused == 0
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        node.engine.calls.asked("s1", SLOT, Heads(3), answered.set_result)
        await answered
        node.engine.status(status)
        assert status.redundancy.terms_refused == 1
