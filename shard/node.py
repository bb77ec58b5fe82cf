"""A shard as one process: opens its data, joins the cluster, serves, and leaves in order."""

import asyncio
import contextlib
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.analytics import AnalyticsService
from shard.directory import DATABASE, Identity, after_look, check_identity, make_identity, read_identity
from shard.engine import Engine
from shard.exchange import NodeService
from shard.keys import RECORDS
from shard.settings import ShardSettings
from shard.store import Store
from tally.client.channel import SERVER_OPTIONS, open_channel
from tally.client.client import RoutedClient
from tally.cluster.config import ClusterConfig, check_kept
from tally.cluster.controller import Controller
from tally.cluster.etcd import Etcd
from tally.cluster.members import ControllerSeat, Member
from tally.cluster.reader import ClusterReader
from tally.cluster.registration import Registration
from tally.cluster.state import ClusterState
from tally.errors import ConfigError, StoreCorrupt, StoreFailed

log = structlog.get_logger()

HINT_TIMEOUT_S: Final = 1.0
STOP_S: Final = 1.0


async def run(settings: ShardSettings) -> None:
    """Serve until cancelled; a start waits for etcd, and for the cluster to be made, as long as it takes.

    Raises:
        TallyError: The shard can't start, or can't go on.
    """
    async with contextlib.AsyncExitStack() as stack:
        etcd = Etcd(settings.etcd)
        stack.push_async_callback(etcd.close)
        reader = ClusterReader(etcd, settings.keys)
        await reader.start(float("inf"))
        identity = own_directory(settings, reader.state.config)
        structlog.contextvars.bind_contextvars(process=f"shard {identity.shard}")
        store = await asyncio.to_thread(Store, settings.data / DATABASE)
        identity = look_inside(settings.data, identity, store)
        engine = Engine(
            store,
            shard=identity.shard,
            directory=identity.directory,
            shape=identity.shape,
            on_newer_epoch=reader.refresh_soon,
            mark_founded=lambda: make_identity(settings.data, replace(identity, founded=True)),
        )
        stack.callback(engine.close)
        await _Node(settings, identity, etcd, reader, engine).serve()


def own_directory(settings: ShardSettings, config: ClusterConfig) -> Identity:
    """Return the identity of the data directory; make it if it is new.

    Raises:
        ConfigError: The cluster has more copies than this version keeps.
        DirectoryRefused: It is not this shard's, or not this cluster's.
    """
    check_kept(config)
    found = read_identity(settings.data)
    if found is None:
        shard = settings.shard or f"shard-{secrets.token_hex(4)}"
        found = Identity(config.uuid, shard, secrets.token_hex(16), config.shape)
        make_identity(settings.data, found)
        log.info("directory_made", path=str(settings.data), shard=shard)
    check_identity(found, settings.data, settings.shard, config)
    return found


def look_inside(path: Path, found: Identity, store: Store) -> Identity:
    """Return the identity of a directory whose database is open; it may have lost what it held."""
    identity = after_look(found, has_copies=any(True for _ in store.scan(*RECORDS)))
    if identity.directory != found.directory:
        log.error("directory_lost_its_data", path=str(path), shard=found.shard)
    if identity != found:
        make_identity(path, identity)
    return identity


class _Node:
    """The parts of a shard that has its data open."""

    def __init__(
        self, settings: ShardSettings, identity: Identity, etcd: Etcd, reader: ClusterReader, engine: Engine
    ) -> None:
        keys, shard = settings.keys, identity.shard
        self._address = settings.address
        self._listen = settings.listen
        self._reader = reader
        self._engine = engine
        self._client = RoutedClient(reader)
        self._registration = Registration(
            etcd,
            keys,
            shard=shard,
            member=Member(self._address, identity.directory),
            prove_disk=lambda: engine.prove_disk(settings.lease_s / 2),
            ttl_s=settings.lease_s,
        )
        self._controller = Controller(
            etcd,
            keys,
            reader,
            seat=ControllerSeat(shard, self._address),
            lease=lambda: self._registration.lease,
            hint=self._hint_map,
        )
        self._health = health.aio.HealthServicer()
        self._server = self._grpc_server(shard)

    def _grpc_server(self, shard: str) -> grpc.aio.Server:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        node_pb2_grpc.add_NodeServicer_to_server(NodeService(self._engine, self._reader, shard), server)
        analytics_pb2_grpc.add_AnalyticsServicer_to_server(AnalyticsService(self._client), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [file.DESCRIPTOR.services_by_name for file in (analytics_pb2, node_pb2, health_pb2)]
        services = [service.full_name for by_name in names for service in by_name.values()]
        reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server)
        try:
            server.add_insecure_port(self._listen)
        except RuntimeError as exc:
            raise ConfigError("TALLY_LISTEN", self._listen, "an address of this machine with a free port") from exc
        return server

    async def serve(self) -> None:
        """Join the cluster, serve until cancelled, leave."""
        self._reader.on_change(self._take_map)
        self._take_map(self._reader.state)
        await self._client.start()
        await self._server.start()
        try:
            async with asyncio.TaskGroup() as group:
                # First of all: proving the disk, and so the lease, needs it.
                group.create_task(self._work(), name="engine")
                group.create_task(self._reader.run(), name="reader")
                await self._registration.register()
                # "Registered", not "all slots serve": else an ordered start would wait for itself.
                for name in ("", analytics_pb2.DESCRIPTOR.services_by_name["Analytics"].full_name):
                    await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
                log.info("shard_ready", address=self._address)
                group.create_task(self._registration.run(), name="registration")
                group.create_task(self._controller.run(), name="controller")
                # The controller may be waiting for just this shard.
                await self._hint_map(self._reader.state)
        finally:
            await self._health.enter_graceful_shutdown()
            await self._registration.leave()
            await self._client.close()
            await self._server.stop(STOP_S)
            log.info("shard_stopped")

    async def _work(self) -> None:
        try:
            await self._engine.run()
        except (StoreFailed, StoreCorrupt) as exc:
            # What was being written is unknown, and a thread may hang in it: nothing here can be ended in order.
            log.critical("store_failed", reason=str(exc))
            os._exit(1)

    def _take_map(self, state: ClusterState) -> None:
        if state.map is not None:
            self._engine.take_map(state.map)

    async def _hint_map(self, state: ClusterState) -> None:
        await asyncio.gather(*(self._hint_one(member.address) for member in state.members.values()))

    async def _hint_one(self, address: str) -> None:
        async with open_channel(address) as channel:
            stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
            with contextlib.suppress(grpc.aio.AioRpcError):  # It reads the map within a second anyway.
                await stub.HintMap(node_pb2.HintMapRequest(), timeout=HINT_TIMEOUT_S)
