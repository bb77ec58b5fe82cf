"""How a reader shares reads among its callers, and what it does about trouble; etcd is played by a script."""

import asyncio
from collections.abc import Callable

import pytest
import structlog

from tally.cluster.etcd import Etcd, EtcdSettings, Snapshot
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat
from tally.cluster.reader import ClusterReader
from tally.cluster.state import ClusterState
from tally.errors import BadClusterData, ClusterMissing, ClusterReplaced, EtcdUnavailable, TallyError
from tests.support.cluster_values import SECRET, config, key_value, member
from tests.support.waiting import running

KEYS = Keys("t")
AWAY = EtcdUnavailable("a:1", "gone fishing")


class PlayedEtcd(Etcd):
    """Keys in memory; a read waits for ``gate``, and fails while ``failure`` says so."""

    def __init__(self) -> None:
        super().__init__(EtcdSettings(endpoints=("a:1",)))
        self.values = {KEYS.config: (config().to_json(), 1), KEYS.secret: (SECRET.to_json(), 1)}
        self.revision = 1
        self.failure: TallyError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.full_reads = 0
        self.polls = 0

    def put(self, key: str, value: str) -> None:
        self.revision += 1
        self.values[key] = (value, self.revision)

    def delete(self, key: str) -> None:
        self.revision += 1
        del self.values[key]

    async def read_prefix(self, prefix: str, *, min_mod_revision: int = 0) -> Snapshot:
        assert prefix == KEYS.prefix
        seen, revision = dict(self.values), self.revision
        self.full_reads += min_mod_revision == 0
        self.polls += min_mod_revision > 0
        await self.gate.wait()
        if self.failure:
            raise self.failure
        found = tuple(
            key_value(key, value, mod=mod) for key, (value, mod) in sorted(seen.items()) if mod >= min_mod_revision
        )
        return Snapshot(revision, found, len(seen))


async def started(etcd: PlayedEtcd) -> ClusterReader:
    reader = ClusterReader(etcd, KEYS)
    await reader.start(0)
    return reader


async def tick() -> None:
    """Let every task that can go on go on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_poll_of_an_unchanged_cluster_reads_nothing_whole() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    for _ in range(3):
        await reader.refresh()
    assert (etcd.full_reads, etcd.polls) == (1, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda etcd: etcd.put(KEYS.member("s2"), member(2).to_json()),
        lambda etcd: etcd.put(KEYS.member("s1"), member(9).to_json()),
        lambda etcd: etcd.delete(KEYS.member("s1")),
    ],
    ids=["made", "changed", "deleted"],
)
async def test_every_kind_of_change_is_seen(change: Callable[[PlayedEtcd], None]) -> None:
    etcd = PlayedEtcd()
    etcd.put(KEYS.member("s1"), member(1).to_json())
    reader = await started(etcd)
    told: list[ClusterState] = []
    reader.on_change(told.append)
    before = reader.state
    change(etcd)
    assert await reader.refresh() != before
    assert told == [reader.state]
    await reader.refresh()
    assert len(told) == 1


async def test_listener_that_fails_is_logged_and_ends_neither_the_reader_nor_what_others_are_told() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    told: list[ClusterState] = []

    def fail(_: ClusterState) -> None:
        raise AssertionError("a bug")

    reader.on_change(fail)
    reader.on_change(told.append)
    with structlog.testing.capture_logs() as lines:
        async with running(reader.run()):
            for number in (1, 2):
                etcd.put(KEYS.member(f"s{number}"), member(number).to_json())
                reader.refresh_soon()
                await tick()
                assert told[-1] == reader.state
    assert [len(state.members) for state in told] == [1, 2]
    assert [line["event"] for line in lines if line.get("exc_info")] == ["state_listener_failed"] * 2


async def test_shard_that_is_reached_elsewhere_stays_so_whatever_etcd_says_later() -> None:
    etcd = PlayedEtcd()
    etcd.put(KEYS.member("s1"), member(1).to_json())
    reader = ClusterReader(etcd, KEYS, resolve={"s1": "127.0.0.1:9"})
    await reader.start(0)
    assert reader.state.address_of("s1") == "127.0.0.1:9"
    etcd.put(KEYS.member("s1"), member(5).to_json())
    await reader.refresh()
    assert reader.state.members["s1"] == member(5)
    assert reader.state.address_of("s1") == "127.0.0.1:9"


async def test_restored_etcd_is_read_whole_though_it_counts_lower() -> None:
    etcd = PlayedEtcd()
    etcd.put(KEYS.member("s1"), member(1).to_json())
    reader = await started(etcd)
    etcd.values[KEYS.member("s1")] = (member(5).to_json(), 1)
    etcd.revision = 1
    assert (await reader.refresh()).members["s1"] == member(5)


async def test_callers_who_wait_together_share_one_read_that_began_after_they_came() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    etcd.gate.clear()
    first = asyncio.create_task(reader.refresh())
    await tick()
    etcd.put(KEYS.member("s1"), member(1).to_json())  # Too late for the read under way.
    later = [asyncio.create_task(reader.refresh()) for _ in range(5)]
    await tick()
    etcd.gate.set()
    assert "s1" not in (await first).members
    assert all("s1" in state.members for state in await asyncio.gather(*later))
    assert (etcd.polls, etcd.full_reads) == (2, 2)


async def test_read_that_was_cancelled_does_not_count_for_those_who_waited() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    etcd.gate.clear()
    first, second = (asyncio.create_task(reader.refresh()) for _ in range(2))
    await tick()
    etcd.put(KEYS.member("s1"), member(1).to_json())
    first.cancel()
    await tick()
    etcd.gate.set()
    assert "s1" in (await second).members


async def test_failure_is_told_to_all_who_waited_for_that_read() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    etcd.failure = AWAY
    etcd.gate.clear()
    waiting = [asyncio.create_task(reader.refresh()) for _ in range(3)]
    await tick()
    etcd.gate.set()
    assert await asyncio.gather(*waiting, return_exceptions=True) == [AWAY] * 3
    etcd.failure = None
    assert await reader.refresh() == reader.state


async def test_many_calls_of_refresh_soon_make_one_read() -> None:
    etcd = PlayedEtcd()
    reader = ClusterReader(etcd, KEYS, poll_s=3600)
    await reader.start(0)
    async with running(reader.run()):
        await tick()
        assert etcd.polls == 1
        for _ in range(5):
            reader.refresh_soon()
        await tick()
        assert etcd.polls == 2


async def test_refresh_soon_during_a_read_makes_one_more() -> None:
    etcd = PlayedEtcd()
    reader = ClusterReader(etcd, KEYS, poll_s=3600)
    await reader.start(0)
    etcd.gate.clear()
    async with running(reader.run()):
        await tick()
        for _ in range(5):
            reader.refresh_soon()
        etcd.gate.set()
        await tick()
        assert etcd.polls == 2


async def test_trouble_leaves_the_state_as_it_is_and_ends_by_itself() -> None:
    etcd = PlayedEtcd()
    reader = ClusterReader(etcd, KEYS, poll_s=3600)
    await reader.start(0)
    held = reader.state
    async with running(reader.run()):
        for failure in (AWAY, None):
            etcd.failure = failure
            etcd.put(KEYS.controller, "not ours")
            reader.refresh_soon()
            await tick()
            assert reader.state is held
        etcd.put(KEYS.controller, ControllerSeat("s1", "127.0.0.1:7001").to_json())
        reader.refresh_soon()
        await tick()
        assert reader.state.controller == ControllerSeat("s1", "127.0.0.1:7001")


async def test_bad_data_is_told_again_at_every_refresh() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    etcd.put(KEYS.map, "not ours")
    for _ in range(2):
        with pytest.raises(BadClusterData, match=KEYS.map):
            await reader.refresh()


async def test_member_that_somebody_wrote_wrongly_blinds_nobody() -> None:
    etcd = PlayedEtcd()
    etcd.put(KEYS.member("s9"), '{"state": "drain"}')
    reader = await started(etcd)
    assert list(reader.state.unreadable) == [KEYS.member("s9")]
    assert "s9" not in reader.state.members


async def test_member_that_becomes_unreadable_stays_as_it_was_known_until_it_is_gone() -> None:
    """Else a slip of the operator cut all links to a shard that runs."""
    etcd = PlayedEtcd()
    key = KEYS.member("s1")
    etcd.put(key, member(1).to_json())
    reader = await started(etcd)
    for value in (member(1).to_json().replace("active", "drained"), "", "[]"):
        etcd.put(key, value)
        state = await reader.refresh()
        assert list(state.unreadable) == [key]
        assert state.members == {"s1": member(1)}
        assert state.address_of("s1") == member(1).peer_address
    etcd.put(key, member(2).to_json())
    assert (await reader.refresh()).members == {"s1": member(2)}
    etcd.put(key, "")
    await reader.refresh()
    etcd.delete(key)
    assert not (await reader.refresh()).members


async def test_cluster_that_was_made_anew_under_a_running_process_is_not_taken() -> None:
    etcd = PlayedEtcd()
    reader = await started(etcd)
    held = reader.state
    etcd.put(KEYS.config, config(uuid="f" * 32).to_json())
    with pytest.raises(ClusterReplaced, match="uuid"):
        await reader.refresh()
    assert reader.state is held


@pytest.mark.parametrize("failure", [AWAY, ClusterMissing("t")])
async def test_start_tells_what_was_wrong_when_its_time_is_over(failure: TallyError) -> None:
    etcd = PlayedEtcd()
    etcd.failure = failure
    with pytest.raises(type(failure)):
        await ClusterReader(etcd, KEYS).start(0)


def exchange(etcd: PlayedEtcd) -> None:
    """Put another etcd in the place of this one: as many keys, written long ago, and more has happened there since."""
    etcd.values = {
        KEYS.config: (config().to_json(), 1),
        KEYS.secret: (SECRET.to_json(), 1),
        KEYS.member("s9"): (member(9).to_json(), 2),
    }
    etcd.revision += 100


async def test_etcd_that_came_back_after_a_failure_is_read_whole() -> None:
    """By its revisions and its number of keys it has nothing new."""
    etcd = PlayedEtcd()
    etcd.put(KEYS.member("s1"), member(1).to_json())
    reader = await started(etcd)
    etcd.delete(KEYS.config)
    with pytest.raises(ClusterMissing):
        await reader.refresh()
    exchange(etcd)
    assert set((await reader.refresh()).members) == {"s9"}


async def test_etcd_that_was_exchanged_is_read_whole_once_it_is_distrusted() -> None:
    etcd = PlayedEtcd()
    etcd.put(KEYS.member("s1"), member(1).to_json())
    reader = await started(etcd)
    exchange(etcd)
    assert set((await reader.refresh()).members) == {"s1"}
    reader.distrust()
    assert set((await reader.refresh()).members) == {"s9"}
