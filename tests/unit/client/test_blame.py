"""The writing half of the routed client when shards die: what it sends again, and what it does not."""

import asyncio
from dataclasses import replace

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.outbox import ATTEMPT_S, BACKOFF_MAX_S
from tally.client.quarantine import STRUCK_MAX
from tally.client.suspects import ASIDE_FIRST_S, ASIDE_S, UNEXPLAINED_S
from tally.errors import InDoubt, SetAside
from tally.event import Event
from tests.support import cluster_values
from tests.support.events import HOUR, click, keyed, slot_of_event, users_of_slot
from tests.support.routing import answer_to
from tests.support.writing_bench import Bench

POISON = click("ann")
SLOT = slot_of_event(POISON, cluster_values.SMALL)
NEIGHBOURS = [click(user) for user in users_of_slot(SLOT, 3, cluster_values.SMALL)]


class Mortal(Bench):
    """A bench whose shards can die; time goes on by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sub_batches: list[node_pb2.SubBatch] = []

    def send(self) -> node_pb2.SubBatch:
        """Return what goes out next, to whoever is primary."""
        self.now += BACKOFF_MAX_S
        self.writing.tick(self.now)
        batch = self.sent(self.now)
        self.sub_batches.append(batch)
        return batch

    @staticmethod
    def slot(event: Event) -> int:
        return slot_of_event(event, cluster_values.SMALL)

    def die(self) -> None:
        """Let the primary die; it was sent something, and somebody notices."""
        primary = self.owner(SLOT)
        self.writing.link_broken(primary, self.now, refused=False)
        self.writing.link_broken(primary, self.now, refused=True)

    def counted(self) -> None:
        """Let what was sent last be counted."""
        self.writing.answer(answer_to(self.sub_batches[-1], node_pb2.OUTCOME_OK), self.now)

    def refuses(self, event: Event) -> bool:
        try:
            self.record(event)
        except SetAside:
            return True
        return False


async def test_event_that_two_shards_died_of_is_not_sent_to_the_third() -> None:
    bench = Mortal()
    lost = bench.record(POISON)
    bench.send()
    bench.die()
    assert not lost.done()
    bench.around.move(SLOT, bench.other(SLOT))
    bench.writing.map_changed(bench.now)
    bench.send()
    bench.die()
    assert isinstance(lost.exception(), InDoubt)
    bench.writing.tick(bench.now + ATTEMPT_S)
    assert bench.messages(bench.now + ATTEMPT_S) == []
    assert bench.refuses(keyed(POISON, "again"))


async def test_slot_goes_on_as_a_new_writer_after_its_sub_batch_was_given_up() -> None:
    bench = Mortal()
    bench.record(POISON)
    for _ in range(2):
        before = bench.send()
        bench.die()
    other = bench.record(NEIGHBOURS[0])
    following = bench.send()
    assert (following.seq, following.writer == before.writer) == (1, False)
    bench.counted()
    assert other.result() is None


async def test_neighbours_of_the_culprit_are_counted_when_they_come_again_and_it_dies_alone() -> None:
    bench = Mortal()
    events = [*NEIGHBOURS, POISON]
    bench.record(NEIGHBOURS[0])
    bench.send()
    for event in events:
        bench.record(event)  # These wait, and go together.
    bench.counted()
    for _ in range(2):
        assert len(bench.send().users) == len(events)
        bench.die()
    again = [bench.record(keyed(event, "again")) for event in events]
    for future in again[:-1]:
        assert len(bench.send().users) == 1
        bench.counted()
        assert future.result() is None
    assert list(bench.send().users) == [POISON.user]
    bench.die()
    assert isinstance(again[-1].exception(), InDoubt)
    assert bench.refuses(POISON)
    assert not any(bench.refuses(event) for event in NEIGHBOURS)
    assert len(bench.send().users) == len(NEIGHBOURS), "they travel together again"


async def test_same_event_that_waits_is_refused_when_it_is_set_aside() -> None:
    bench = Mortal()
    bench.record(POISON)
    bench.send()
    bench.die()
    bench.send()
    waiting = bench.record(keyed(POISON, "again")), bench.record(NEIGHBOURS[0])
    bench.die()
    assert isinstance(waiting[0].exception(), SetAside)
    assert list(bench.send().users) == [NEIGHBOURS[0].user]
    bench.counted()
    assert waiting[1].result() is None


async def test_event_that_is_set_aside_takes_no_room_and_neither_do_those_of_its_call() -> None:
    bench = Mortal()
    bench.record(POISON)
    for _ in range(2):
        bench.send()
        bench.die()
    for _ in range(1000):
        with pytest.raises(SetAside) as raised:
            bench.record(NEIGHBOURS[0], POISON)
        assert raised.value.place == 1
    bench.writing.tick(bench.now + ATTEMPT_S)
    assert bench.messages(bench.now + ATTEMPT_S) == []


async def test_event_is_taken_again_after_a_while_and_set_aside_for_longer_if_a_shard_dies_of_it() -> None:
    bench = Mortal()
    bench.record(POISON)
    for _ in range(2):
        bench.send()
        bench.die()
    bench.writing.tick(bench.now + ASIDE_FIRST_S)
    bench.now += ASIDE_FIRST_S
    bench.record(POISON)
    bench.send()
    assert bench.blame.set_aside == 1
    bench.die()
    assert bench.blame.set_aside == 2
    bench.writing.tick(bench.now + ASIDE_S - 1)
    assert bench.refuses(POISON)


async def test_slots_that_die_with_the_culprit_are_cleared_a_few_at_a_time_and_it_dies_alone() -> None:
    """A shard counts many slots at once: all of them are there when it dies, and each is sent again."""
    bench = Mortal()
    shard = bench.owner(SLOT)
    events = [click("bob", HOUR + 24 * day) for day in range(100)]
    neighbours = [event for event in events if bench.slot(event) != SLOT and bench.owner(bench.slot(event)) == shard]
    for event in (POISON, *neighbours):
        bench.record(event)
    assert len(bench.message(shard)) > 2
    bench.die()
    crashes = 1
    for _ in range(30):
        bench.now += BACKOFF_MAX_S
        bench.writing.tick(bench.now)
        if crashes == 2:
            for event in (POISON, *neighbours):
                assert not bench.refuses(event), "nobody is sure yet"
        while batches := bench.message(shard, bench.now):
            assert len(batches) <= (STRUCK_MAX if crashes == 1 else 1)
            if any(POISON.user in batch.users for batch in batches):
                crashes += 1
                bench.die()
                break
            for batch in batches:
                bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), bench.now)
        if crashes == 3:
            break
    assert crashes == 3
    assert bench.refuses(POISON)
    assert not any(bench.refuses(event) for event in neighbours)


async def test_streams_that_are_only_cut_give_nothing_up() -> None:
    bench = Mortal()
    future = bench.record(POISON)
    first = bench.send()
    for _ in range(10):
        bench.writing.link_broken(bench.owner(SLOT), bench.now, refused=False)
        bench.writing.map_changed(bench.now)
        assert bench.messages(bench.now + UNEXPLAINED_S / 2) == [], "it may still show that somebody died"
        bench.now += UNEXPLAINED_S
        assert bench.send() == first
    bench.counted()
    assert future.result() is None


async def test_shard_that_said_it_is_not_ready_does_not_die_of_what_it_refused() -> None:
    bench = Mortal()
    future = bench.record(POISON)
    for _ in range(5):
        bench.writing.answer(answer_to(bench.send(), node_pb2.OUTCOME_NOT_READY), bench.now)
        bench.die()
    bench.send()
    bench.counted()
    assert future.result() is None


async def test_restarts_that_nobody_saw_refusing_are_deaths_too() -> None:
    bench = Mortal()
    lost = bench.record(POISON)
    for bits in ("01", "02"):
        assert not lost.done()
        bench.send()
        bench.writing.link_broken(bench.owner(SLOT), bench.now, refused=False)
        alive = {**bench.around.state.alive, bench.owner(SLOT): bits * 8}
        bench.around.state = replace(bench.around.state, alive=alive)
        bench.writing.map_changed(bench.now)
    assert isinstance(lost.exception(), InDoubt)


async def test_two_shards_that_both_came_back_by_one_look_at_etcd_are_two_deaths_and_one_loss() -> None:
    bench = Mortal()
    lost = bench.record(POISON)
    bench.send()
    first = bench.owner(SLOT)
    bench.writing.link_broken(first, bench.now, refused=False)
    bench.around.move(SLOT, bench.other(SLOT))
    bench.writing.map_changed(bench.now)
    bench.send()
    second = bench.owner(SLOT)
    bench.writing.link_broken(second, bench.now, refused=False)
    waiting = bench.record(keyed(POISON, "again"))
    alive = {**bench.around.state.alive, first: "01" * 8, second: "01" * 8}
    bench.around.state = replace(bench.around.state, alive=alive)
    bench.writing.map_changed(bench.now)
    assert isinstance(lost.exception(), InDoubt)
    assert isinstance(waiting.exception(), SetAside)
    assert bench.blame.set_aside == 1, "it was the only one, so it is known for sure"
    assert bench.refuses(POISON)
    following = bench.record(NEIGHBOURS[0])
    bench.send()
    bench.counted()
    assert following.result() is None


async def test_one_death_over_a_shard_that_holds_many_sub_batches_gives_none_up() -> None:
    bench = Mortal()
    futures: list[asyncio.Future[None]] = [bench.record(click(f"u{number}")) for number in range(20)]
    bench.messages()
    for shard in ("s0", "s1", "s2"):
        bench.writing.link_broken(shard, 0.0, refused=False)
        bench.writing.link_broken(shard, 0.0, refused=True)
    bench.writing.tick(BACKOFF_MAX_S)
    while batches := bench.messages(BACKOFF_MAX_S):
        for batch in batches:
            bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), BACKOFF_MAX_S)
    assert all(future.result() is None for future in futures)
