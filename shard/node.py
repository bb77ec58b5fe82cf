"""A shard as one process: opens its data, joins the cluster, serves, and leaves in order."""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections import Counter
from dataclasses import replace
from typing import Final

import structlog
from grpc_health.v1 import health, health_pb2

from protos.tally.v1 import analytics_pb2
from shard.engine.engine import Engine
from shard.engine.points import Point, counts_all, crash_at, crash_on_user, goes_on
from shard.figures import Figures, ShardCollector
from shard.rpc.analytics import AnalyticsService
from shard.rpc.asking import Asker
from shard.rpc.exchange import NodeService
from shard.rpc.peer_guard import PeerGuard
from shard.rpc.peers import Peers
from shard.rpc.servers import listen, peer_server, public_server
from shard.rpc.to_controller import ToController
from shard.settings import LISTEN, PEER_LISTEN, ShardSettings
from shard.storage.damage import note_damage, open_data
from shard.storage.directory import check_identity, make_identity, read_identity
from shard.storage.disk import DISK_MAX_S
from shard.storage.kept_secret import KeptSecret, make_private
from shard.storage.room import Room
from shard.storage.store import Store
from tally import logs
from tally.address import Address
from tally.client.blame import Own
from tally.client.client import RoutedClient
from tally.client.last_words import LastWords
from tally.cluster.config import ClusterConfig
from tally.cluster.controller.controller import Controller
from tally.cluster.controller.node_calls import NodeCalls
from tally.cluster.etcd import Etcd
from tally.cluster.identity import FORMAT, Identity
from tally.cluster.members import ControllerSeat, Member, Wanted
from tally.cluster.reader import ClusterReader
from tally.cluster.registration import Registration
from tally.cluster.state import ClusterState
from tally.errors import DirectoryRefused, StoreCorrupt, StoreFailed, TallyError
from tally.monitor.process import monitored
from tally.tasks import until_cancelled

log = structlog.get_logger()

STOP_S: Final = 1.0
HAND_OVER_S: Final = 5.0
HAND_OVER_AGAIN_S: Final = 0.1
DISK_EVERY_S: Final = 2.0
FULL_DISK_EVERY_S: Final = 0.25  # Clients are refused until there is room.
MAP_AGAIN_S: Final = 0.5
LAST_WORDS: Final = "last-words"  # Beside the database.


class Stop:
    """How a shard is ended.

    Attributes:
        asked: It is to hand over what others can have, and to end.
        in_order: It will; before that it can only be cancelled.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.in_order = False


async def run(settings: ShardSettings, stop: Stop) -> None:
    """Serve until asked to stop, or until cancelled; a start waits for etcd and for the cluster to be made.

    Raises:
        TallyError: The shard can't start, or can't go on.
    """
    async with contextlib.AsyncExitStack() as stack:
        etcd = Etcd(settings.etcd)
        stack.push_async_callback(etcd.close)
        reader = ClusterReader(etcd, settings.keys, poll_s=min(1.0, settings.lease_s / 4), resolve=settings.resolved)
        await reader.start(float("inf"))
        identity = own_directory(settings, reader.state.config)
        make_private(settings.data)
        logs.name_process(f"shard {identity.shard}")
        identity, store = await asyncio.to_thread(
            open_data,
            settings.data,
            identity,
            reader.state.map,
            give_up=settings.set_damaged_aside,
            cache_bytes=settings.cache_mib * 2**20,
        )
        node = _Node(settings, identity, etcd, reader, store)
        await stack.enter_async_context(monitored(settings.metrics_address, lambda: ShardCollector(node.figures)))
        await node.serve(stop)


def own_directory(settings: ShardSettings, config: ClusterConfig) -> Identity:
    """Return the identity of the data directory; make it if it is new.

    Raises:
        DirectoryRefused: It is not this shard's, or not this cluster's.
    """
    found = read_identity(settings.data)
    if found is None:
        shard = settings.shard or f"shard-{secrets.token_hex(4)}"
        found = Identity(config.uuid, shard, secrets.token_hex(16), config.shape)
        make_identity(settings.data, found)
        log.info("directory_made", path=str(settings.data), shard=shard)
    check_identity(found, settings.data, settings.shard, config)
    if found.format != FORMAT:
        found = replace(found, format=FORMAT)
        make_identity(settings.data, found)
        log.info("directory_upgraded", path=str(settings.data), format=FORMAT)
    return found


class _Node:
    """The parts of a shard that has its data open."""

    def __init__(
        self, settings: ShardSettings, identity: Identity, etcd: Etcd, reader: ClusterReader, store: Store
    ) -> None:
        keys, shard = settings.keys, identity.shard
        self._data = settings.data
        self._reached = goes_on if settings.crash_at is None else crash_at(settings.crash_at)
        self._address = settings.address
        self._peer_address = settings.peer_address
        self._shard = shard
        self._reader = reader
        self._client = RoutedClient(reader, own=Own(shard, LastWords(settings.data / LAST_WORDS)))
        self._calls = NodeCalls(lambda: reader.state)
        self._controller = Controller(
            etcd,
            keys,
            reader,
            seat=ControllerSeat(shard, settings.peer_address),
            lease=lambda: self._registration.lease,
            hint=self._hint_map,
            ask_health=self._calls.ask_health,
            give_switches=self._calls.give_switches,
        )
        self._to_controller = ToController(shard, reader, self._controller, self._calls)
        self._asker = Asker(reader, self._to_controller.ask)
        self._peers = Peers(shard, reader, self._asker.ask)
        self._goes_by_map = False
        self._engine = Engine(
            store,
            shard=shard,
            directory=identity.directory,
            shape=identity.shape,
            outside=self._peers,
            process=lambda: self._registration.bits,
            mark_founded=lambda: make_identity(settings.data, replace(identity, founded=True)),
            founded=identity.founded,
            reached=self._reached,
            counts=counts_all if settings.crash_on_user is None else crash_on_user(settings.crash_on_user),
        )
        self._registration = Registration(
            etcd,
            keys,
            shard=shard,
            member=Member(settings.address, settings.peer_address, identity.directory),
            prove_disk=lambda: self._engine.prove_disk(settings.lease_s / 2),
            ttl_s=settings.lease_s,
        )
        self._room = Room(settings.data)
        self._secret = KeptSecret(settings.data)
        self._service = NodeService(self._engine, reader, self._to_controller, shard)
        self._health = health.aio.HealthServicer()
        self._public_server = public_server(AnalyticsService(self._client), self._health)
        self._peer_server = peer_server(self._service, PeerGuard(lambda: reader.state, shard))
        listen(self._public_server, Address.parse(LISTEN, settings.listen), LISTEN)
        listen(self._peer_server, settings.peers, PEER_LISTEN)

    def figures(self) -> Figures:
        """Return what a monitor is told."""
        return Figures(
            self._engine.redundancy.figures(time.monotonic()),
            slots_serving=len(self._engine.serving()),
            queued_events=self._engine.queued_events,
            set_aside=self._client.events_set_aside,
            disk_used=self._room.used,
            refusing=Counter(map(str, self._engine.refusing().values())),
            cluster=self._controller.standing(),
        )

    async def serve(self, stop: Stop) -> None:
        """Join the cluster, serve, hand over what others can have, leave."""
        self._peers.start(self._engine.calls)
        self._reader.on_change(self._take_map)
        await self._client.start()
        await self._peer_server.start()
        await self._public_server.start()
        try:
            async with asyncio.TaskGroup() as group:
                # First of all: proving the disk, and so the lease, needs it.
                working = group.create_task(until_cancelled(self._work), name="engine")
                others = [
                    group.create_task(until_cancelled(self._reader.run), name="reader"),
                    group.create_task(until_cancelled(self._watch_disk), name="disk"),
                    group.create_task(until_cancelled(self._take_part), name="member"),
                ]
                stop.in_order = True
                await stop.asked.wait()
                await self._hand_over()
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await self._leave()  # While the copies here still answer those who have not noticed.
                working.cancel()
        finally:
            await self._leave()
            await self._client.close()
            await self._peers.close()
            await self._calls.close()
            self._engine.close()
            log.info("shard_stopped")

    async def _leave(self) -> None:
        """Take no more calls; safe to repeat."""
        await self._health.enter_graceful_shutdown()
        await self._registration.leave()
        await asyncio.gather(self._public_server.stop(STOP_S), self._peer_server.stop(STOP_S))

    async def _take_part(self) -> None:
        """Be a member, ask for changes of rows, and be a candidate for controller."""
        await self._registration.register()
        await self._show_first_map()
        # "Registered", not "all slots serve": else an ordered start would wait for itself.
        for name in ("", analytics_pb2.DESCRIPTOR.services_by_name["Analytics"].full_name):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("shard_ready", address=self._address, peer_address=self._peer_address)
        async with asyncio.TaskGroup() as group:
            group.create_task(until_cancelled(self._registration.run), name="registration")
            # Not before: what a process asks for that is not registered is refused.
            group.create_task(until_cancelled(self._asker.run), name="asker")
            group.create_task(until_cancelled(self._controller.run), name="controller")
            # The controller may be waiting for just this shard.
            await self._calls.hint_map(self._reader.state)

    async def _hint_map(self, state: ClusterState) -> None:
        if state.map is not None and state.map.joining:
            self._reached(Point.JOIN_WISHED)
        await self._calls.hint_map(state)

    async def _hand_over(self) -> None:
        """Let others be primary before this process goes, so that nobody waits for them to notice."""
        self._service.stopping = True
        try:
            async with asyncio.timeout(HAND_OVER_S):
                while left := self._engine.leave():
                    log.info("handing_over", slots=left)
                    await asyncio.sleep(HAND_OVER_AGAIN_S)
        except TimeoutError:
            log.warning("not_handed_over", slots=left)

    async def _watch_disk(self) -> None:
        while True:
            if (secret := self._reader.state.secret) is not None:
                await asyncio.to_thread(self._secret.keep, secret)
            disk = await asyncio.to_thread(shutil.disk_usage, self._data)
            self._room.see(disk.used, disk.free)
            self._engine.room(takes_copies=self._room.takes_copies, takes_ops=self._room.takes_events)
            await asyncio.sleep(DISK_EVERY_S if self._room.takes_events else FULL_DISK_EVERY_S)

    async def _work(self) -> None:
        try:
            await self._engine.run()
        except (StoreFailed, StoreCorrupt) as exc:
            # What was being written is unknown, and a thread may hang in it: nothing here can be ended in order.
            log.critical("store_failed", reason=str(exc))
            if isinstance(exc, StoreCorrupt):
                await self._note_damage(exc.what)
            logs.flush()
            os._exit(1)

    async def _note_damage(self, reason: str) -> None:
        """Let the next start know; if the disk does not take it, that start may find out by itself."""
        try:
            async with asyncio.timeout(DISK_MAX_S):
                await asyncio.to_thread(note_damage, self._data, reason)
        except (DirectoryRefused, TimeoutError) as exc:
            log.error("damage_not_noted", reason=str(exc))  # noqa: TRY400 - no traceback: it ends here.

    async def _show_first_map(self) -> None:
        """Let the copies go by the map from now on, as it is since this process is registered.

        Not before: what the process before this one asked for might still be executed (rule 11), and the copies would
        take the row that comes of it for a newer one than their first.
        """
        while True:
            try:
                state = await self._reader.refresh()
            except TallyError as exc:
                log.warning("map_not_read", reason=str(exc))
                await asyncio.sleep(MAP_AGAIN_S)
            else:
                break
        self._goes_by_map = True
        self._take_map(state)

    def _take_map(self, state: ClusterState) -> None:
        if state.map is not None and self._goes_by_map:
            self._engine.take_map(state.map)
            active = [member for member in state.members.values() if member.wanted is Wanted.ACTIVE]
            wanted = state.config.copies_among(len(active))
            self._engine.redundancy.see(state.map.rows, wanted, time.monotonic())
