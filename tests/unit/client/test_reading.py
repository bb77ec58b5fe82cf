"""The reading half of the routed client, without a socket: questions are taken out and answered by hand."""

import asyncio

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.counts import HourCounts
from tally.client.outbox import ATTEMPT_S, BACKOFF_MAX_S
from tally.client.reading import MESSAGE_READS_MAX, Reading
from tally.errors import Overloaded, Unavailable
from tally.hashing import slot_of
from tests.support import cluster_values
from tests.support.events import HOUR
from tests.support.routing import SHARDS, Surroundings

LATER = 1e9
"""A deadline that no test reaches."""


class Bench:
    """A ``Reading`` between callers and shards that the test plays."""

    def __init__(self, *, readers_max: int = 100) -> None:
        self.around = Surroundings()
        self.reading = Reading(
            lambda: self.around.state,
            readers_max=readers_max,
            wake=self.around.wake,
            reread_map=self.around.reread_map,
        )

    def read(self, hour: int = HOUR, *, deadline: float = LATER) -> asyncio.Future[HourCounts]:
        future: asyncio.Future[HourCounts] = asyncio.get_running_loop().create_future()
        self.reading.add(hour, deadline, future, 0.0)
        return future

    def asked(self) -> dict[str, list[node_pb2.HourRead]]:
        """Return what the links would send now, by shard."""
        found = {}
        for shard in SHARDS:
            request = node_pb2.ExchangeRequest()
            self.reading.fill(shard, request)
            if request.reads:
                found[shard] = list(request.reads)
        return found

    def answer(
        self,
        wire: node_pb2.HourRead,
        *,
        each: int = 1,
        refused: tuple[int, ...] = (),
        outcome: node_pb2.Outcome.ValueType = node_pb2.OUTCOME_NOT_READY,
    ) -> None:
        """Answer with ``each`` user, click and impression of each bucket that is not refused."""
        count = each * (len(wire.buckets) - len(refused))
        answer = node_pb2.HourAnswer(
            id=wire.id,
            hour=wire.hour,
            users=count,
            clicks=count,
            impressions=count,
            refused_buckets=refused,
            refused_outcomes=[outcome] * len(refused),
        )
        self.reading.answer(answer, 0.0)

    def answer_all(self, *, each: int = 1) -> None:
        for wires in self.asked().values():
            for wire in wires:
                self.answer(wire, each=each)


def counts(number: int) -> HourCounts:
    return HourCounts(number, number, number)


async def test_every_owner_is_asked_once_and_the_answers_add_up() -> None:
    bench = Bench()
    future = bench.read()
    asked = bench.asked()
    assert bench.around.woken == asked.keys()
    assert all(len(wires) == 1 for wires in asked.values())
    assert sorted(bucket for (wire,) in asked.values() for bucket in wire.buckets) == [0, 1, 2, 3]
    for (wire,) in asked.values():
        assert list(wire.epochs) == [1] * len(wire.buckets)
        assert not future.done()
        bench.answer(wire, each=10)
    assert future.result() == counts(40)


async def test_readers_who_come_during_a_read_get_the_next_one() -> None:
    bench = Bench()
    first = bench.read()
    running = bench.asked()
    later = [bench.read(), bench.read()]
    assert sum(map(len, running.values())) == len(running)
    for (wire,) in running.values():
        bench.answer(wire, each=1)
    assert first.result() == counts(4)
    assert not any(future.done() for future in later)
    bench.answer_all(each=2)
    assert [future.result() for future in later] == [counts(8)] * 2
    assert bench.asked() == {}


async def test_reader_who_comes_before_a_read_is_sent_joins_it_and_lets_the_link_gather_on() -> None:
    bench = Bench()
    first = bench.read()
    bench.around.woken.clear()
    second = bench.read()
    assert bench.around.woken
    bench.answer_all()
    assert first.result() == second.result() == counts(4)
    assert bench.asked() == {}


async def test_bucket_that_has_moved_is_read_from_its_new_owner_and_no_other_again() -> None:
    bench = Bench()
    future = bench.read()
    asked = bench.asked()
    slot = slot_of(HOUR, 0, cluster_values.SMALL)
    old_owner = bench.around.row(slot).primary
    for shard, (wire,) in asked.items():
        refused = (0,) if shard == old_owner else ()
        bench.answer(wire, refused=refused, outcome=node_pb2.OUTCOME_NOT_OWNER)
    assert bench.around.rereads == 1
    new_owner = next(shard for shard in SHARDS if shard != old_owner)
    bench.around.move(slot, new_owner)
    bench.reading.map_changed()
    bench.reading.tick(0.0)
    (again,) = bench.asked().pop(new_owner)
    assert (list(again.buckets), list(again.epochs)) == ([0], [2])
    bench.answer(again)
    assert future.result() == counts(4)


async def test_refusal_without_a_newer_map_is_asked_again_after_a_pause() -> None:
    bench = Bench()
    future = bench.read()
    for (wire,) in bench.asked().values():
        bench.answer(wire, refused=tuple(wire.buckets))
    assert bench.around.rereads == 0
    bench.reading.tick(0.0)
    assert bench.asked() == {}
    bench.reading.tick(BACKOFF_MAX_S)
    bench.answer_all()
    assert future.result() == counts(4)


async def test_late_answer_counts_for_nothing() -> None:
    bench = Bench()
    future = bench.read()
    first = bench.asked()
    bench.reading.tick(ATTEMPT_S)
    for (wire,) in first.values():
        bench.answer(wire, each=100)
    assert not future.done()
    bench.answer_all()
    assert future.result() == counts(4)
    for (wire,) in first.values():
        bench.answer(wire, each=100)


async def test_answers_of_a_read_that_was_begun_anew_count_for_nothing() -> None:
    """They may be older than the writes that the later reader must see."""
    bench = Bench()
    early = bench.read(deadline=1.0)
    first = bench.asked()
    later = bench.read()
    bench.reading.tick(1.0)
    assert isinstance(early.exception(), Unavailable)
    for (wire,) in first.values():
        bench.answer(wire, each=100)
    assert not later.done()
    bench.answer_all()
    assert later.result() == counts(4)


async def test_part_that_stays_missing_is_unavailable_at_the_deadline() -> None:
    bench = Bench()
    future = bench.read(deadline=8.0)
    (first, *_), *_ = bench.asked().values()
    bench.answer(first)
    bench.reading.tick(7.9)
    assert not future.done()
    bench.reading.tick(8.0)
    assert isinstance(future.exception(), Unavailable)
    assert bench.read().done() is False


async def test_broken_link_is_asked_again_after_a_pause() -> None:
    bench = Bench()
    future = bench.read()
    asked = bench.asked()
    broken = next(iter(asked))
    bench.reading.link_broken(broken, 0.0)
    for (wire,) in asked.values():
        bench.answer(wire)  # That of the broken one comes too late.
    assert not future.done()
    bench.reading.tick(0.0)
    assert bench.asked() == {}
    bench.reading.tick(BACKOFF_MAX_S)
    assert bench.around.woken >= {broken}
    bench.answer_all()
    assert future.result() == counts(4)


async def test_read_waits_for_the_first_map() -> None:
    bench = Bench()
    bench.around.state = cluster_values.state()
    future = bench.read()
    bench.reading.tick(0.0)
    assert bench.asked() == {}
    bench.around.state = cluster_values.state(mapped=True)
    bench.reading.tick(0.05)
    bench.answer_all()
    assert future.result() == counts(4)


async def test_shard_without_a_way_to_it_is_asked_when_there_is_one() -> None:
    bench = Bench()
    bench.around.unreachable.update(SHARDS)
    future = bench.read()
    assert bench.asked() == {}
    bench.around.unreachable.clear()
    bench.reading.tick(BACKOFF_MAX_S)
    bench.answer_all()
    assert future.result() == counts(4)


async def test_too_many_readers_are_refused() -> None:
    bench = Bench(readers_max=2)
    bench.read()
    bench.read(HOUR + 1)
    with pytest.raises(Overloaded):
        bench.read()


async def test_reader_that_went_away_is_told_nothing() -> None:
    bench = Bench()
    gone, waits = bench.read(), bench.read()
    gone.cancel()
    bench.answer_all()
    bench.answer_all()
    assert waits.result() == counts(4)


async def test_message_has_a_bounded_number_of_questions() -> None:
    bench = Bench(readers_max=MESSAGE_READS_MAX * 4)
    for hour in range(MESSAGE_READS_MAX * 2):
        bench.read(hour)
    sizes = []
    while asked := bench.asked():
        sizes.append(max(len(wires) for wires in asked.values()))
    assert len(sizes) > 1
    assert max(sizes) == MESSAGE_READS_MAX


async def test_closing_tells_everybody() -> None:
    bench = Bench()
    running, waiting = bench.read(), bench.read()
    bench.reading.close()
    assert isinstance(running.exception(), Unavailable)
    assert isinstance(waiting.exception(), Unavailable)
