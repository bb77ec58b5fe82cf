"""The operators' commands against a real etcd. The shards are what stands there, and stubs that answer Status."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from protos.tally.internal.v1 import node_pb2
from tally.cluster.config import ClusterConfig
from tally.cluster.etcd import Delete, Etcd, EtcdSettings, Put
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat, Member, Wanted
from tally.cluster.planning.placement import first_map
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.command.cluster import Change, KeepsChanging, Seen, make
from tests.support.cluster_values import SECRET, config, members
from tests.support.commands import Finished, begin, finish, tally
from tests.support.etcd import EtcdServer


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with EtcdServer() as running:
        yield running.endpoint


class World:
    """A cluster in etcd of three shards that keep two copies of eight slots; all are alive, none answers."""

    def __init__(self, endpoint: str, name: str, etcd: Etcd) -> None:
        self.keys = Keys(name)
        self._endpoint = endpoint
        self._etcd = etcd

    async def write(self, *operations: Put | Delete) -> None:
        await self._etcd.commit([], operations)

    async def begin(self, copies: int = 2) -> None:
        shards = members(3)
        await self.write(
            Put(self.keys.config, config(copies=copies).to_json()),
            Put(self.keys.secret, SECRET.to_json()),
            *(Put(self.keys.member(name), one.to_json()) for name, one in shards.items()),
            *(Put(self.keys.alive_of(name), "00" * 8) for name in shards),
            Put(self.keys.controller, ControllerSeat("s0", "127.0.0.1:7000").to_json()),
            Put(self.keys.map, first_map(8, shards, copies, min(2, copies)).to_json()),
        )

    async def state(self) -> ClusterState:
        return ClusterState.from_etcd(self.keys, (await self._etcd.read_prefix(self.keys.prefix)).found)

    async def slot_map(self) -> SlotMap:
        slot_map = (await self.state()).map
        assert slot_map is not None
        return slot_map

    async def without(self, shard: str) -> SlotMap:
        """Return the map after a drain of ``shard``."""
        others = {name: one for name, one in members(3).items() if name != shard}
        return first_map(8, others, 2, 1)

    def options(self) -> tuple[str, ...]:
        return ("--etcd", self._endpoint, "--cluster", self.keys.cluster)

    async def run(self, *command: str) -> Finished:
        return await tally(*command, *self.options())


@pytest.fixture
async def world(server: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    etcd = Etcd(EtcdSettings(endpoints=(server,)))
    name = "".join(letter for letter in request.node.name.lower() if letter.isalnum())[-60:]
    cluster = World(server, name, etcd)
    await cluster.begin()
    yield cluster
    await etcd.close()


async def test_members_are_listed(world: World) -> None:
    await world.write(Delete(world.keys.alive_of("s1")), Put(world.keys.member("odd"), "{"))
    shown = await world.run("members")
    assert shown.status == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == ["SHARD", "s0", "s1", "s2"]
    assert shown.err == f"{world.keys.member('odd')} can't be read: not JSON: " + shown.err.split("JSON: ", 1)[1]
    told = json.loads((await world.run("members", "--output", "json")).out)["members"]
    assert [(one["id"], one["alive"]) for one in told] == [("s0", True), ("s1", False), ("s2", True)]
    assert sum(one["copies"] for one in told) == 16


async def test_a_shard_is_taken_out_step_by_step(world: World) -> None:
    """Each command says which one comes next."""
    early = await world.run("members", "remove", "s2")
    assert early.status == 1
    assert early.err.endswith("first: tally drain s2 --wait\n")

    rehearsed = await world.run("drain", "s2", "--dry-run")
    assert rehearsed.status == 0
    assert rehearsed.out.startswith("would be done: s2 drains; it keeps ")
    assert (await world.state()).members["s2"].wanted is Wanted.ACTIVE

    process = await begin("drain", "s2", "--wait", *world.options())
    async with asyncio.timeout(20):
        while (await world.state()).members["s2"].wanted is Wanted.ACTIVE:
            await asyncio.sleep(0.05)
    await world.write(Put(world.keys.map, (await world.without("s2")).to_json()))
    drained = await finish(process)
    assert drained.status == 0
    assert drained.out.endswith("s2 may be switched off; then: tally members remove s2\n")
    assert "0 copies left, 0 of them primary (100 %)" in drained.err
    assert (await world.state()).members["s2"] == replace(members(3)["s2"], wanted=Wanted.DRAINING)

    assert (await world.run("members", "remove", "s2")).err == (
        "Error: s2 keeps nothing, but is alive; switch it off first\n"
    )
    await world.write(Delete(world.keys.alive_of("s2")))
    assert (await world.run("members", "remove", "s2", "--dry-run")).status == 0
    removed = await world.run("members", "remove", "s2")
    assert (removed.status, removed.out) == (0, "s2 is no member any more\n")
    assert set((await world.state()).members) == {"s0", "s1"}
    again = await world.run("members", "remove", "s2")
    assert (again.status, again.err) == (1, "Error: 's2' is no member of the cluster; members are: s0, s1\n")


async def test_a_drain_is_undone_while_it_is_waited_for(world: World) -> None:
    process = await begin("drain", "s1", "--wait", *world.options())
    async with asyncio.timeout(20):
        while (await world.state()).members["s1"].wanted is Wanted.ACTIVE:
            await asyncio.sleep(0.05)
    undone = await world.run("drain", "s1", "--undo")
    assert (undone.status, undone.out) == (0, "s1 is active again, and gets its share of the slots\n")
    waited = await finish(process)
    assert waited.status == 1
    assert "s1 is active again: somebody undid the drain" in waited.err
    assert dict((await world.state()).members) == members(3)


async def test_ctrl_c_ends_the_waiting_and_not_the_drain(world: World) -> None:
    process = await begin("drain", "s1", "--wait", *world.options())
    assert process.stderr is not None
    async with asyncio.timeout(20):
        assert b"copies left" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    ended = await finish(process)
    assert ended.status == 130
    assert ended.err == "s1 goes on draining; to end that: tally drain s1 --undo\n"
    assert (await world.state()).members["s1"].wanted is Wanted.DRAINING


async def test_a_drain_that_does_not_move_says_why(world: World) -> None:
    await world.write(Delete(world.keys.alive_of("s0")))
    slot_map = await world.slot_map()
    slot = next(slot for slot, row in enumerate(slot_map.rows) if "s0" not in row.in_sync)
    await world.write(Put(world.keys.map, replace(slot_map, joining={slot: ("s0",)}).to_json()))
    stuck = await world.run("drain", "s2", "--wait", "--patience-s", "1")
    assert stuck.status == 1
    assert "not alive: s0" in stuck.out
    assert "Error: nothing moved for 1 s: s0 is to get 1 of its slots, and is not alive" in stuck.err
    assert "Traceback" not in stuck.err


async def test_the_last_active_shard_is_not_drained(world: World) -> None:
    for shard in ("s0", "s1"):
        assert (await world.run("drain", shard)).status == 0
    last = await world.run("drain", "s2")
    assert last.status == 1
    assert "no active shard would be left" in last.err


async def test_copies_are_set_and_nothing_else(world: World) -> None:
    rehearsed = await world.run("config", "set", "copies", "3", "--dry-run")
    assert (rehearsed.status, (await world.state()).config) == (0, config(copies=2))
    done = await world.run("config", "set", "copies", "3")
    assert done.status == 0
    assert done.out.startswith("copies: 2 -> 3, min_copies: 2\n8 copies are to be made")
    expected: ClusterConfig = replace(config(copies=2), copies=3)
    assert (await world.state()).config == expected
    shown = await world.run("config", "-o", "json")
    assert json.loads(shown.out)["copies"] == 3
    assert "hours_together" in (await world.run("config")).out


@pytest.mark.parametrize(("name", "value"), [("slots", "64"), ("spread", "8"), ("colour", "1"), ("copies", "many")])
async def test_other_settings_are_refused(world: World, name: str, value: str) -> None:
    refused = await world.run("config", "set", name, value)
    assert refused.status == 2
    assert "Traceback" not in refused.err
    assert name in refused.err
    assert (await world.state()).config == config(copies=2)


async def test_options_before_the_subcommand_count_too(world: World) -> None:
    done = await tally("config", *world.options(), "set", "copies", "3", "--dry-run")
    assert done.status == 0


class StubShard:
    """A shard that says what it is told to, and begins copies."""

    def __init__(self, copies: Mapping[int, tuple[str, int]]) -> None:
        self.copies = dict(copies)
        self.founded: list[int] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None  # Is done while it begins a copy,
        self.before_status: Callable[[], Awaitable[None]] | None = None  # and before it says what it has.
        self.epochs: dict[int, int] = {}  # Slot -> epoch that its copy has stored, if not 1.
        self._server = grpc.aio.server()
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Status": grpc.unary_unary_rpc_method_handler(
                self._status,
                request_deserializer=node_pb2.StatusRequest.FromString,
                response_serializer=node_pb2.StatusResponse.SerializeToString,
            ),
            "FoundCopy": grpc.unary_unary_rpc_method_handler(
                self._found_copy,
                request_deserializer=node_pb2.FoundCopyRequest.FromString,
                response_serializer=node_pb2.FoundCopyResponse.SerializeToString,
            ),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tally.internal.v1.Node", handlers),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    async def __aenter__(self) -> "StubShard":
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def member(self, number: int) -> Member:
        return Member("127.0.0.1:1", f"127.0.0.1:{self.port}", f"{number:032x}")

    async def _status(self, _request: node_pb2.StatusRequest, _context: Any) -> node_pb2.StatusResponse:
        if self.before_status is not None:
            await self.before_status()
        return node_pb2.StatusResponse(
            copies=[
                node_pb2.CopyStatus(
                    slot=slot,
                    incarnation=bytes.fromhex(name),
                    epoch=self.epochs.get(slot, 1),
                    head=node_pb2.OpName(epoch=1, opnum=opnum),
                )
                for slot, (name, opnum) in self.copies.items()
            ]
        )

    async def _found_copy(self, request: node_pb2.FoundCopyRequest, context: Any) -> node_pb2.FoundCopyResponse:
        if request.slot in self.copies:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "it has a copy of that slot")
        self.copies[request.slot] = (request.incarnation.hex(), 0)
        self.founded.append(request.slot)
        if self.meanwhile is not None:
            await self.meanwhile()
        return node_pb2.FoundCopyResponse()


OLD = "ab" * 16


@pytest.fixture
async def survivor(world: World) -> AsyncIterator[StubShard]:
    """Slots 0 to 3 are lost with s0 and s1; s2 lives, keeps the others, and has an older copy of slot 3."""
    own = members(3)["s2"].directory
    async with StubShard({3: (OLD, 17), **dict.fromkeys(range(4, 8), (own, 5))}) as shard:
        lost = SlotRow(4, "s0", {"s0": "00" * 16, "s1": "11" * 16}, 2)
        rows = (*(lost for _ in range(4)), *(SlotRow(2, "s2", {"s2": own}) for _ in range(4)))
        await world.write(
            Put(world.keys.map, SlotMap(rows).to_json()),
            Put(world.keys.member("s2"), shard.member(2).to_json()),
            Delete(world.keys.alive_of("s0")),
            Delete(world.keys.alive_of("s1")),
        )
        yield shard


@pytest.mark.usefixtures("survivor")
async def test_status_names_the_lost_slots_and_the_way_out(world: World) -> None:
    shown = await world.run("status")
    assert shown.status == 1
    assert "without a live copy: slots 0-3" in shown.out
    assert "tally give-up --slots 0-3 --accept-data-loss" in shown.out
    told = json.loads((await world.run("status", "-o", "json")).out)
    assert told["without_live_copy"] == [0, 1, 2, 3]
    assert told["copies_at_place"] is None


async def test_giving_up_only_says_the_cost_until_it_is_accepted(world: World, survivor: StubShard) -> None:
    before = await world.slot_map()
    told = await world.run("give-up", "--slots", "0-3")
    assert told.status == 1
    assert "slots 0-3: in sync only on s0 and s1" in told.out
    assert "3: s2 has an older copy (17 ops); only what came after it is lost" in told.out
    assert told.err == ("Error: nothing was done; to do it: tally give-up --slots 0-3 --accept-data-loss\n")
    assert (await world.run("give-up", "--slots", "0-3", "--accept-data-loss", "--dry-run")).status == 0
    assert await world.slot_map() == before
    assert survivor.founded == []


async def test_slots_are_given_up(world: World, survivor: StubShard) -> None:
    before = await world.slot_map()
    done = await world.run("give-up", "--slots", "0-1,3", "--accept-data-loss")
    assert done.status == 0, done.err
    assert done.out.startswith("given up: slots 0-1,3\n")
    after = await world.slot_map()
    assert survivor.founded == [0, 1]
    for slot in (0, 1, 3):
        assert after.rows[slot] == SlotRow(5, "s2", {"s2": survivor.copies[slot][0]}, gave_up=5)
    assert after.rows[3].in_sync == {"s2": OLD}
    assert (after.rows[2], after.rows[4:]) == (before.rows[2], before.rows[4:])
    again = await world.run("give-up", "--slots", "0", "--accept-data-loss")
    assert again.status == 1
    assert "slot 0 has a live copy in sync, on s2" in again.err


async def test_an_empty_copy_of_a_run_that_broke_off_is_taken(world: World, survivor: StubShard) -> None:
    """The shard has it already, and would begin no other."""
    survivor.copies[0] = ("cd" * 16, 0)
    done = await world.run("give-up", "--slots", "0", "--accept-data-loss")
    assert done.status == 0, done.err
    assert (await world.slot_map()).rows[0].in_sync == {"s2": "cd" * 16}


async def test_a_map_that_changes_in_between_is_not_written_over(world: World, survivor: StubShard) -> None:
    """The decision is taken again, and the copy that was begun is used."""
    rows = (await world.slot_map()).rows
    moved = SlotMap((*rows[:7], replace(rows[7], epoch=9)), {7: ("s1",)})

    async def move() -> None:
        await world.write(Put(world.keys.map, moved.to_json()))

    survivor.meanwhile = move
    done = await world.run("give-up", "--slots", "0", "--accept-data-loss")
    assert done.status == 0, done.err
    after = await world.slot_map()
    assert after.rows[0] == SlotRow(5, "s2", {"s2": survivor.copies[0][0]}, gave_up=5)
    assert (after.rows[1:], after.joining) == (moved.rows[1:], moved.joining)
    assert survivor.founded == [0]


async def test_rows_that_change_all_the_time_are_no_older_map(world: World, survivor: StubShard) -> None:
    """A shard knows a row that was written after the map was read: that is no reason to recover anything."""

    async def move() -> None:
        slot_map = await world.slot_map()
        row = slot_map.rows[7]
        survivor.epochs[7] = row.epoch + 1
        await world.write(
            Put(world.keys.map, SlotMap((*slot_map.rows[:7], replace(row, epoch=row.epoch + 1))).to_json())
        )

    survivor.before_status = move
    told = await world.run("give-up", "--slots", "0-3")
    assert "slots 0-3: in sync only on s0 and s1" in told.out, told
    recover = await world.run("recover", "--dry-run")
    assert recover.status == 0, recover
    survivor.before_status = None
    done = await world.run("give-up", "--slots", "0-3", "--accept-data-loss")
    assert done.status == 0, done
    survivor.epochs[7] += 1
    older = await world.run("give-up", "--slots", "2", "--accept-data-loss")
    assert (older.status, "run tally recover first" in older.err) == (1, True), older


@pytest.mark.usefixtures("survivor")
async def test_a_rehearsed_recovery_that_finds_all_well_is_no_failure(world: World) -> None:
    for shard in ("s0", "s1"):
        await world.write(Delete(world.keys.member(shard)))
    rehearsed = await world.run("recover", "--dry-run")
    assert (rehearsed.status, rehearsed.err) == (0, ""), rehearsed
    assert rehearsed.out == "there is nothing to recover: the map is as new as all copies\n"
    refused = await world.run("recover")
    assert (refused.status, refused.err) == (1, f"Error: {rehearsed.out}"), refused


async def test_a_holder_that_comes_back_in_between_keeps_its_slots(world: World, survivor: StubShard) -> None:
    async def come_back() -> None:
        await world.write(Put(world.keys.alive_of("s1"), "11" * 8))

    before = await world.slot_map()
    survivor.meanwhile = come_back
    refused = await world.run("give-up", "--slots", "0", "--accept-data-loss")
    assert refused.status == 1
    assert "s1 is alive by its lease but does not answer" in refused.err
    assert await world.slot_map() == before


async def test_what_changes_each_time_is_given_up_after_some_attempts(server: str, world: World) -> None:
    async def decide(seen: Seen) -> Change:
        await world.write(Put(world.keys.map, (await world.slot_map()).to_json()))
        return Change("", (seen.keys.map,), (Delete(seen.keys.map),))

    etcd = Etcd(EtcdSettings(endpoints=(server,)))
    with pytest.raises(KeepsChanging):
        await make(etcd, world.keys, decide)
    await etcd.close()
    assert len((await world.slot_map()).rows) == 8


async def test_slots_with_a_live_copy_are_not_given_up(world: World, survivor: StubShard) -> None:
    refused = await world.run("give-up", "--slots", "3-4", "--accept-data-loss")
    assert refused.status == 1
    assert "slot 4 has a live copy in sync, on s2" in refused.err
    assert survivor.founded == []


async def test_slots_that_there_are_not_are_wrongly_called(world: World) -> None:
    wrong = await world.run("give-up", "--slots", "7-8")
    assert wrong.status == 2
    assert "0..7" in wrong.err


@pytest.mark.parametrize(
    "command",
    [
        "members",
        "members remove s1",
        "drain s1",
        "config",
        "config set copies 2",
        "give-up --slots 1",
    ],
)
async def test_each_says_how_to_name_an_etcd_and_which_cluster_is_missing(
    server: str, command: str, tmp_path: Path
) -> None:
    asked = await tally(*command.split(), cwd=tmp_path)
    assert asked.status == 2
    assert "--etcd host:port or TALLY_ETCD" in asked.err
    missing = await tally(*command.split(), "--etcd", server, "--cluster", "none")
    assert missing.status == 1
    assert "tally create --cluster none" in missing.err
