"""The election, the plans and what primaries ask for, with a real etcd and shards that only answer health calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import pytest

from tally.cluster.controller.controller import Controller
from tally.cluster.controller.row_requests import RowCall
from tally.cluster.etcd import Committed, Compare, Delete, Etcd, EtcdSettings, Put
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.planning.placement import first_map
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Change, Request, new_term, promote, with_rows
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.errors import EtcdUnavailable, NotController
from tests.support.cluster_values import SECRET, config, member, members
from tests.support.etcd import EtcdServer
from tests.support.waiting import running, until

FIRST = first_map(8, members(3), 3, 2)


class WatchedEtcd(Etcd):
    """Counts the writes of the map, and has mishaps with them on demand."""

    map_writes = 0
    lose_answer = False
    before_map_write: Callable[[], Awaitable[object]] | None = None

    async def commit(self, compare: Sequence[Compare], then: Sequence[Put | Delete]) -> Committed:
        if not any(one.key.endswith("/map") for one in then):
            return await super().commit(compare, then)
        before, self.before_map_write = self.before_map_write, None
        if before is not None:
            await before()
        committed = await super().commit(compare, then)
        self.map_writes += committed.ok
        if self.lose_answer:
            self.lose_answer = False
            raise EtcdUnavailable("here", "the answer was lost")
        return committed


class Shard:
    """What runs of a shard here: its place in etcd, a reader, a controller, and its view of how all shards are."""

    def __init__(self, etcd: Etcd, keys: Keys, number: int) -> None:
        self.name = f"s{number}"
        self.etcd = etcd
        self.keys = keys
        self.number = number
        self.lease = 0
        self.hints: list[ClusterState] = []
        self.silent: set[str] = set()
        self.frozen: set[str] = set()
        self.thaw = asyncio.Event()
        self.stopping: set[str] = set()
        self.heads: dict[str, OpName] = {}
        self.switches: list[tuple[str, str, Mapping[int, str]]] = []
        self.reader = ClusterReader(etcd, keys, poll_s=0.05)
        self.controller = Controller(
            etcd,
            keys,
            self.reader,
            seat=ControllerSeat(self.name, member(number).peer_address),
            lease=lambda: self.lease,
            hint=self.hint,
            ask_health=self.ask_health,
            give_switches=self.give_switches,
            period_s=0.1,
        )

    async def hint(self, state: ClusterState) -> None:
        self.hints.append(state)
        raise ConnectionError("a shard is away")  # Which must not matter.

    async def ask_health(self, shard: str, address: str) -> ShardHealth | None:
        assert address == member(int(shard[1:])).peer_address
        if shard in self.frozen:
            await self.thaw.wait()
        if shard in self.silent:
            return None
        held = self.reader.state.map
        copies = {
            slot: CopyHealth(
                row.in_sync[shard],
                complete=True,
                epoch=row.epoch,
                serving=row.primary == shard,
                head=self.heads.get(shard, NOTHING),
            )
            for slot, row in enumerate(held.rows if held else ())
            if shard in row.in_sync
        }
        return ShardHealth(copies, stopping=shard in self.stopping)

    async def give_switches(self, address: str, shard: str, switches: Mapping[int, str]) -> None:
        self.switches.append((address, shard, switches))
        raise ConnectionError("it is away")  # Which must not matter either.

    async def register(self) -> None:
        self.lease = await self.etcd.grant_lease(30)
        await self.etcd.commit(
            [],
            [
                Put(self.keys.member(self.name), member(self.number).to_json()),
                Put(self.keys.alive_of(self.name), self.name, self.lease),
            ],
        )

    async def planned(self) -> None:
        """Wait until it has planned as the elected one."""
        await until(lambda: self.controller.elected and self.controller._term.believed.standstill is None)

    @property
    def map(self) -> SlotMap:
        assert self.reader.state.map is not None
        return self.reader.state.map


@pytest.fixture
async def etcd(server: EtcdServer) -> AsyncIterator[WatchedEtcd]:
    """A connection to the common etcd."""
    connection = WatchedEtcd(EtcdSettings(endpoints=(server.endpoint,)))
    yield connection
    await connection.close()


@pytest.fixture
async def shards(etcd: WatchedEtcd, keys: Keys) -> AsyncIterator[list[Shard]]:
    """Three shards that are not registered yet; all slots are to have three copies."""
    await etcd.commit(
        [], [Put(keys.config, config(first_shards=3, copies=3).to_json()), Put(keys.secret, SECRET.to_json())]
    )
    made = [Shard(etcd, keys, number) for number in range(3)]
    for one in made:
        await one.reader.start(0)
    yield made
    for one in made:
        await one.controller._map_hints.close()
        await etcd.revoke(one.lease)


@pytest.fixture
async def first(shards: list[Shard], etcd: WatchedEtcd) -> AsyncIterator[Shard]:
    """The controller of three shards, which has made the first map and planned on it."""
    for one in shards:
        await one.register()
    async with running(shards[0].reader.run(), shards[0].controller.run()):
        await shards[0].planned()
        await until(lambda: etcd.map_writes > 0)  # The map can be read before the answer to its write has come.
        yield shards[0]


def term(slot: int, epoch: int = 1) -> Request:
    primary = FIRST.rows[slot].primary
    return Request(Change.TERM, slot, epoch, primary, "", process=primary)


def removal(slot: int, epoch: int = 1) -> Request:
    row = FIRST.rows[slot]
    shard = next(one for one in row.in_sync if one != row.primary)
    return Request(Change.REMOVE, slot, epoch, shard, row.in_sync[shard], process=row.primary)


async def map_in(etcd: Etcd, keys: Keys) -> SlotMap:
    found = await etcd.read(keys.map)
    assert found is not None
    return SlotMap.from_json(found.value, keys.map, 8)


# The election.


async def test_one_is_elected_and_makes_the_first_map_once_all_are_there(shards: list[Shard]) -> None:
    for one in shards[:2]:
        await one.register()
    work = [run for one in shards for run in (one.reader.run(), one.controller.run())]
    async with running(*work):
        await until(lambda: sum(one.controller.elected for one in shards) == 1)
        assert [one.reader.state.map_revision for one in shards] == [0] * 3
        await shards[2].register()
        await until(lambda: all(one.reader.state.map_revision for one in shards))
        await until(lambda: sum(len(one.hints) for one in shards) == 1)
        revision = shards[0].reader.state.map_revision
        await asyncio.sleep(0.3)  # Some rounds more, in which nothing is left to do.
        assert [one.reader.state.map_revision for one in shards] == [revision] * 3
        assert shards[0].map == FIRST
        assert sum(one.controller.elected for one in shards) == 1


async def test_member_that_appears_is_acted_on_at_once(shards: list[Shard]) -> None:
    controller = shards[0].controller
    controller._period_s = 3600
    for one in shards[:2]:
        await one.register()
    async with running(shards[0].reader.run(), controller.run()):
        await until(lambda: controller.elected)
        await shards[2].register()
        await until(lambda: shards[0].reader.state.map is not None, within_s=2)


async def test_another_is_elected_when_the_lease_of_the_first_is_gone(shards: list[Shard]) -> None:
    first, second = shards[:2]
    for one in (first, second):
        await one.register()
    async with running(first.reader.run(), first.controller.run()):
        await until(lambda: first.controller.elected)
    await first.etcd.revoke(first.lease)
    async with running(second.reader.run(), second.controller.run()):
        await until(lambda: second.controller.elected)
    await first.reader.refresh()
    assert not first.controller.elected


async def test_deposed_controller_can_not_write(shards: list[Shard], etcd: WatchedEtcd, keys: Keys) -> None:
    """It planned, was frozen, lost its seat, and goes on where it was."""
    first, second = shards[:2]
    for one in shards:
        await one.register()
    await first.controller._round()
    planned_on = await first.reader.refresh()
    assert first.controller.elected
    await etcd.revoke(first.lease)
    await second.controller._round()
    assert not await first.controller._write_map(FIRST, planned_on)
    assert await etcd.read(keys.map) is None


async def test_seat_of_another_with_the_same_revision_is_not_the_own(
    shards: list[Shard], etcd: WatchedEtcd, keys: Keys
) -> None:
    """A restored etcd may number another's seat as it numbered this one's."""
    first, second = shards[:2]
    for one in shards:
        await one.register()
    await first.controller._round()
    planned_on = await first.reader.refresh()
    assert first.controller.elected
    await etcd.commit([], [Put(keys.controller, second.controller._seat.to_json(), second.lease)])
    assert not await first.controller._write_map(FIRST, planned_on)
    assert await etcd.read(keys.map) is None
    found = await first.reader.refresh()
    assert found.controller_revision == planned_on.controller_revision
    assert not first.controller.elected


async def test_map_that_changed_since_it_was_planned_on_is_not_overwritten(
    shards: list[Shard], etcd: WatchedEtcd, keys: Keys
) -> None:
    await shards[0].register()
    await shards[0].controller._round()
    planned_on = await shards[0].reader.refresh()
    await etcd.commit([], [Put(keys.map, first_map(8, members(1)).to_json())])
    assert not await shards[0].controller._write_map(FIRST, planned_on)
    assert await map_in(etcd, keys) == first_map(8, members(1))


async def test_seat_of_an_earlier_process_is_not_taken_for_the_own(
    shards: list[Shard], etcd: WatchedEtcd, keys: Keys
) -> None:
    """Nor is one that was taken without getting the answer: it is cleared, and taken anew."""
    for one in shards:
        await one.register()
    left = await etcd.commit([], [Put(keys.controller, ControllerSeat("s0", "old:1").to_json(), shards[0].lease)])
    await shards[0].controller._round()
    assert not shards[0].controller.elected
    assert await etcd.read(keys.map) is None
    async with running(shards[0].reader.run(), shards[0].controller.run()):
        await until(lambda: shards[0].controller.elected)
        await until(lambda: shards[0].reader.state.map is not None)
    assert shards[0].reader.state.controller_revision > left.revision


async def test_nobody_runs_for_the_seat_without_a_lease(shards: list[Shard], etcd: WatchedEtcd, keys: Keys) -> None:
    await shards[0].controller._round()
    assert await etcd.read(keys.controller) is None


# What primaries ask for.


async def test_request_is_in_etcd_when_it_is_answered(first: Shard, etcd: WatchedEtcd, keys: Keys) -> None:
    assert await first.controller.request([removal(3)]) == [None]
    row = (await map_in(etcd, keys)).rows[3]
    assert (row.epoch, removal(3).shard in row.in_sync) == (2, False)


async def test_requests_of_the_same_time_are_one_transaction(first: Shard, etcd: WatchedEtcd, keys: Keys) -> None:
    before = etcd.map_writes
    calls = []
    for slot in range(8):
        calls.append(asyncio.create_task(first.controller.request([term(slot)])))
        await asyncio.sleep(0)  # They come one after the other, but soon.
    assert await asyncio.gather(*calls) == [[None]] * 8
    assert etcd.map_writes == before + 1
    assert [row.epoch for row in (await map_in(etcd, keys)).rows] == [2] * 8


async def test_request_of_an_old_epoch_is_refused_with_the_row(first: Shard, etcd: WatchedEtcd, keys: Keys) -> None:
    executed, refused, other = await first.controller.request([term(0), removal(0), term(1)])
    assert (executed, other) == (None, None)
    assert refused is not None
    assert "epoch 2" in refused.reason
    assert refused.row == (await map_in(etcd, keys)).rows[0]
    writes = etcd.map_writes
    (again,) = await first.controller.request([term(0)])
    assert again is not None
    assert etcd.map_writes == writes  # For a refusal nothing is written.


async def test_transaction_whose_answer_was_lost_is_executed_once(first: Shard, etcd: WatchedEtcd, keys: Keys) -> None:
    etcd.lose_answer = True
    (answer,) = await first.controller.request([term(5)])
    assert answer is not None
    assert answer.row is not None
    assert answer.row.epoch == 2
    assert (await map_in(etcd, keys)).rows[5].epoch == 2


async def test_request_is_tried_again_on_a_map_that_somebody_else_wrote(
    first: Shard, etcd: WatchedEtcd, keys: Keys
) -> None:
    async def operator() -> None:
        held = await map_in(etcd, keys)
        await Etcd.commit(etcd, [], [Put(keys.map, with_rows(held, {7: new_term(held.rows[7])}).to_json())])

    etcd.before_map_write = operator
    answers = await first.controller.request([term(0), term(7)])
    assert [answer is None for answer in answers] == [True, False]
    assert [row.epoch for row in (await map_in(etcd, keys)).rows] == [2, 1, 1, 1, 1, 1, 1, 2]


async def test_shard_that_is_not_the_controller_executes_nothing(first: Shard, shards: list[Shard]) -> None:
    assert first.controller.elected
    with pytest.raises(NotController):
        await shards[1].controller.request([term(0)])


async def test_controller_that_was_deposed_executes_nothing_more(
    shards: list[Shard], etcd: WatchedEtcd, keys: Keys
) -> None:
    """It does not know yet that it lost its seat."""
    first, second = shards[:2]
    for one in shards:
        await one.register()
    await etcd.commit([], [Put(keys.map, FIRST.to_json())])
    await first.controller._round()
    await first.reader.refresh()
    await etcd.revoke(first.lease)
    await second.controller._round()
    assert first.controller.elected
    with pytest.raises(NotController):
        await first.controller._execute([RowCall([term(0)], {}, 0.0)])
    assert await map_in(etcd, keys) == FIRST


async def test_requests_that_wait_when_the_controller_ends_are_not_left_waiting(shards: list[Shard]) -> None:
    for one in shards:
        await one.register()
    async with running(shards[0].reader.run(), shards[0].controller.run()):
        await shards[0].planned()
        waiting = asyncio.create_task(shards[0].controller.request([term(0)]))
        await asyncio.sleep(0)
    with pytest.raises(NotController):
        await waiting
    with pytest.raises(NotController):
        await shards[0].controller.request([term(0)])


# What they ask for in doubt: the controller looks at who is to be removed.


OF_S0 = next(slot for slot, row in enumerate(FIRST.rows) if row.primary == "s0")


def doubted(head: OpName) -> Request:
    """Return a request of s0, the controller's own shard, that is not about this one."""
    return removal(OF_S0)._replace(head=head)


async def test_doubted_request_waits_for_a_look_that_began_after_it_came(first: Shard) -> None:
    """What the member told before may be older than what the primary's disk lost."""
    request = doubted(OpName(1, 4))
    await until(lambda: first.controller._health.answers.believed(first.controller._now())[request.shard] is not None)
    first.heads[request.shard] = OpName(1, 5)
    (answer,) = await first.controller.request([request])
    assert answer is not None
    assert "promoted instead" in answer.reason
    assert answer.row == promote(FIRST.rows[OF_S0], request.shard)
    await until(lambda: first.map.rows[OF_S0].primary == request.shard)


async def test_member_that_is_not_ahead_is_removed_at_a_doubted_request(first: Shard) -> None:
    request = doubted(OpName(1, 5))
    first.heads[request.shard] = OpName(1, 5)
    assert await first.controller.request([request]) == [None]
    await until(lambda: request.shard not in first.map.rows[OF_S0].in_sync)


async def test_nobody_waits_for_the_look_at_who_another_is_in_doubt_about(first: Shard) -> None:
    request = doubted(OpName(1, 5))
    first.frozen.add(request.shard)
    waiting = asyncio.create_task(first.controller.request([request]))
    await until(lambda: request.shard in first.controller._health._under_way)
    assert await first.controller.request([term(OF_S0 + 1)]) == [None]
    assert not waiting.done()
    (answer,) = await waiting
    assert answer is not None
    assert "no answer" in answer.reason
    assert request.shard in first.map.rows[OF_S0].in_sync


async def test_member_that_is_dead_is_removed_at_a_doubted_request(
    first: Shard, shards: list[Shard], etcd: WatchedEtcd
) -> None:
    request = doubted(OpName(1, 5))
    first.controller._period_s = 3600  # It plans nothing of itself.
    await asyncio.sleep(0.2)
    first.silent.add(request.shard)
    await etcd.revoke(next(one.lease for one in shards if one.name == request.shard))
    (answer,) = await first.controller.request([request])
    assert answer is None or "epoch 2" in answer.reason  # A plan may have been the first.
    await until(lambda: request.shard not in first.map.rows[OF_S0].in_sync)


async def test_request_that_waits_for_a_look_when_the_controller_ends_is_not_left_waiting(
    shards: list[Shard],
) -> None:
    for one in shards:
        await one.register()
    request = doubted(OpName(1, 5))
    async with running(shards[0].reader.run(), shards[0].controller.run()):
        await shards[0].planned()
        shards[0].frozen.add(request.shard)
        waiting = asyncio.create_task(shards[0].controller.request([request]))
        await until(lambda: request.shard in shards[0].controller._health._under_way)
    with pytest.raises(NotController):
        await waiting


# Health.


async def test_dead_shard_is_replaced_by_live_members(first: Shard, shards: list[Shard], etcd: WatchedEtcd) -> None:
    first.silent.add("s1")
    await etcd.revoke(shards[1].lease)
    await until(lambda: not any("s1" in row.in_sync for row in first.map.rows))
    assert {row.primary for row in first.map.rows} == {"s0", "s2"}


@pytest.mark.parametrize("still", ["lease", "answer"])
async def test_shard_with_a_lease_or_with_an_answer_stays(
    still: str, first: Shard, shards: list[Shard], etcd: WatchedEtcd
) -> None:
    if still == "lease":
        first.silent.add("s1")
        await until(lambda: first.controller._health.answers.believed(first.controller._now())["s1"] is None)
    else:
        await etcd.revoke(shards[1].lease)
        await until(lambda: "s1" not in first.reader.state.alive)
    await asyncio.sleep(0.3)  # Some plans more.
    assert first.map == FIRST


async def test_nobody_is_taken_out_on_request_while_too_few_live(
    first: Shard, shards: list[Shard], etcd: WatchedEtcd
) -> None:
    first.silent |= {"s1", "s2"}
    for one in shards[1:]:
        await etcd.revoke(one.lease)
    await until(lambda: first.controller._term.believed.barred != "")
    refused, executed = await first.controller.request([removal(0), term(1)])
    assert refused is not None
    assert refused.reason == "too few shards live"
    assert refused.row == FIRST.rows[0]
    assert executed is None
    await until(lambda: first.map.rows[1].epoch == 2)
    assert [row.in_sync for row in first.map.rows] == [row.in_sync for row in FIRST.rows]


async def test_new_controller_plans_and_executes_only_after_all_were_asked(
    shards: list[Shard], etcd: WatchedEtcd, keys: Keys
) -> None:
    """Any of them may know of newer rows than etcd has; one frozen shard delays it by its time-out."""
    for one in shards:
        await one.register()
    await etcd.commit([], [Put(keys.map, FIRST.to_json())])
    await etcd.revoke(shards[2].lease)
    first = shards[0]
    first.frozen.add("s2")
    async with running(first.reader.run(), first.controller.run()):
        await until(lambda: first.controller.elected)
        for refused in await first.controller.request([removal(0), term(1)]):
            assert refused is not None
            assert "not known yet" in refused.reason
        await until(lambda: not any("s2" in row.in_sync for row in first.map.rows))


async def test_shard_that_was_not_asked_yet_is_not_taken_for_dead(
    shards: list[Shard], etcd: WatchedEtcd, keys: Keys
) -> None:
    """Its lease is lost, and its answer to a new controller takes a while."""
    for one in shards:
        await one.register()
    await etcd.commit([], [Put(keys.map, FIRST.to_json())])
    await etcd.revoke(shards[2].lease)
    first = shards[0]
    first.frozen.add("s2")
    async with running(first.reader.run(), first.controller.run()):
        await until(lambda: first.controller.elected)
        await asyncio.sleep(0.4)  # Some plans are due.
        first.thaw.set()
        await first.planned()
    assert await map_in(etcd, keys) == FIRST


async def test_primaries_that_stop_are_told_to_hand_over_until_they_have(first: Shard) -> None:
    first.stopping.add("s1")
    mine = {slot for slot, row in enumerate(FIRST.rows) if row.primary == "s1"}
    await until(lambda: len(first.switches) >= 2)
    address, shard, switches = first.switches[0]
    assert (address, shard, set(switches)) == (member(1).peer_address, "s1", mine)
    requests = [
        Request(Change.PROMOTE, slot, 1, to, FIRST.rows[slot].in_sync[to], process="s1")
        for slot, to in sorted(switches.items())
    ]
    assert await first.controller.request(requests) == [None] * len(mine)
    await until(lambda: not any(row.primary == "s1" for row in first.map.rows))
    given = len(first.switches)
    await asyncio.sleep(0.3)  # Some plans more; at most one was under way.
    assert len(first.switches) <= given + 1
