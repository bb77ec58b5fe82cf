"""One gateway from start to end.

It listens first, so that ``/healthz`` answers while the cluster is looked for. It ends in the order in which requests
depend on things: no new ones, then those under way, then the client that they wait for, then etcd.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import structlog

from gateway.app import App
from gateway.figures import GatewayCollector
from gateway.protocol import HttpServer
from gateway.settings import LISTEN, GatewaySettings
from tally import listening, logs
from tally.client.client import RoutedClient
from tally.cluster.etcd import Etcd
from tally.cluster.reader import ClusterReader
from tally.errors import Unavailable
from tally.event import Event
from tally.limits import connections_that_fit, ignore_hangup
from tally.monitor.process import monitored
from tally.tasks import awaited, until_cancelled

_BACKLOG: Final = 1024
_KERNEL_BUFFER_BYTES: Final = 65_536
# How long to look for etcd and the cluster; less if there is a map to go on with.
_START_WAIT_S: Final = 60.0
_START_WAIT_WITH_MAP_S: Final = 3.0
_KILLED_STATUS: Final = 130
# A worker may hear one wish to end twice: from who ends the whole group, as systemd does, and from its supervisor.
_SAME_WISH_S: Final = 1.0
_LAST_LINES_S: Final = 0.1

log = structlog.get_logger()


class NoCluster:
    """Stands in for the routed client until the cluster is found."""

    events_set_aside: Final = 0

    def overload(self) -> None:
        """Refuse each event for another reason."""

    def record(self, _event: Event) -> NoReturn:
        """Refuse."""
        raise Unavailable("the cluster is not found yet")

    def read_hour(self, _hour: int) -> NoReturn:
        """Refuse."""
        raise Unavailable("the cluster is not found yet")

    async def not_serving(self) -> list[str]:
        """Say why."""
        return ["the cluster is not found yet"]

    async def standing(self) -> None:
        """Know nothing of it."""

    def refusing(self) -> list[str]:
        """Return nothing: nobody is served either."""
        return []


async def serve(settings: GatewaySettings) -> None:
    """Run a gateway until SIGTERM or SIGINT; a second signal ends the process at once.

    Between the signal and its end it serves on for ``lame_duck_s``, but is not ready: so a balancer sees that it goes
    before it refuses connections.

    Raises:
        AddressTaken: The address can't be listened on.
        TallyError: There is no etcd or no such cluster, and no map in a file either; or it is not for this version.
    """
    app = App(NoCluster())
    http = HttpServer(
        app,
        header_timeout_s=settings.header_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        connections=connections_that_fit(settings.connections),
    )
    stop = stop_signal(again_after_s=_SAME_WISH_S if settings.worker is not None else 0.0)
    figures = GatewayCollector(
        app.answered,
        lambda: http.connections.open,
        lambda: app.backend.events_set_aside,
        lambda: app.backend.standing(),  # noqa: PLW0108 - another backend by then.
    )
    async with monitored(settings.metrics_address, lambda: figures, before=figures.look):
        listener = await listen(http, settings)
        log.info("listening", address=str(listening.listens_at(listener)))
        counting = awaited(until_cancelled(lambda: _count(settings, app)), name="counting")
        try:
            await asyncio.wait({counting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if counting.done():
                counting.result()  # Raises why.
            log.info("stopping")
            app.stop()
            await asyncio.sleep(settings.lame_duck_s)
        finally:
            app.stop()
            listener.close()
            await finish_requests(http, settings.finish_s)
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
            log.info("stopped")


def stop_signal(again_after_s: float = 0.0) -> "asyncio.Future[None]":
    """Return a future that is done at the first signal to stop; one that comes later ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    again_at = 0.0

    def on_signal() -> None:
        nonlocal again_at
        if not stop.done():
            again_at = loop.time() + again_after_s
            stop.set_result(None)
        elif loop.time() >= again_at:
            logs.flush(_LAST_LINES_S)
            os._exit(_KILLED_STATUS)  # Who asks twice does not want to wait.

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    ignore_hangup()
    return stop


async def listen(make: Callable[[], asyncio.BaseProtocol], settings: GatewaySettings) -> asyncio.Server:
    """Take HTTP where the settings say; workers share the address.

    Raises:
        AddressTaken: It can't be listened on.
    """
    listener = await listening.listen(
        make, settings.address, LISTEN, backlog=_BACKLOG, reuse_port=settings.worker is not None
    )
    bound_kernel_buffers(listener)
    return listener


def bound_kernel_buffers(listener: asyncio.Server) -> None:
    """Bound what the kernel keeps for each connection that a listener takes; it would give it megabytes."""
    for taking in listener.sockets:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER_BYTES)
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER_BYTES)


async def _count(settings: GatewaySettings, app: App) -> None:
    """Find the cluster, then count for ``app`` until cancelled."""
    etcd = Etcd(settings.etcd)
    try:
        reader = ClusterReader(etcd, settings.keys, file=settings.map_file, resolve=settings.resolved)
        await reader.start(_start_wait_s(settings.map_file))
        client = RoutedClient(
            reader,
            queue_events=settings.queue_events,
            slot_queue_events=settings.slot_queue_events,
            reads_waiting=settings.reads_waiting,
            deadline_s=settings.deadline_s,
        )
        await client.start()
        app.backend = client
        log.info("cluster_found", cluster=settings.keys.cluster, uuid=reader.state.config.uuid)
        try:
            await reader.run()
        finally:
            await client.close()
    finally:
        await etcd.close()


def _start_wait_s(map_file: Path | None) -> float:
    return _START_WAIT_WITH_MAP_S if map_file is not None and map_file.exists() else _START_WAIT_S


async def finish_requests(http: HttpServer, wait_s: float) -> None:
    """Let the requests under way be answered, for at most ``wait_s``; then close every connection."""
    if not await http.connections.close(wait_s):
        log.warning("requests_cut_off")
