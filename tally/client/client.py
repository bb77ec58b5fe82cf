"""The routed client: counts events and reads hours on whichever shards own them. Gateways and shards both use it.

Here are the map, the timer and the links; ``writing`` and ``reading`` do the work.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from protos.tally.internal.v1 import node_pb2
from tally.client import readiness
from tally.client.blame import Blame, Own
from tally.client.channel import peer_metadata
from tally.client.counts import HourCounts
from tally.client.link import ShardLink
from tally.client.reading import Reading
from tally.client.receipt import Receipt
from tally.client.shared_look import SharedLook
from tally.client.writing import Writing
from tally.cluster.planning.standing import Standing
from tally.cluster.state import ClusterState
from tally.errors import Overloaded
from tally.event import Event
from tally.tasks import aside, kept_up

log = structlog.get_logger()

TICK_S: Final = 0.05

Link = ShardLink[node_pb2.ExchangeRequest, node_pb2.ExchangeResponse]


class MapSource(Protocol):
    """Where the map comes from: ``ClusterReader``."""

    @property
    def state(self) -> ClusterState:
        """What is known of the cluster now."""

    def refresh_soon(self) -> None:
        """Read etcd at once instead of at the next poll."""

    def on_change(self, callback: Callable[[ClusterState], None]) -> None:
        """Call ``callback`` whenever ``state`` has changed."""


class RoutedClient:
    """Counts events, reads hours. All methods belong to one event loop."""

    def __init__(
        self,
        source: MapSource,
        *,
        queue_events: int = 10_000,
        slot_queue_events: int = 5_000,
        reads_waiting: int = 10_000,
        deadline_s: float = 8.0,
        own: Own | None = None,
    ) -> None:
        """Prepare a client; ``start`` begins its work.

        Args:
            source: The map, kept up to date by its owner.
            queue_events: How many events may wait or be in doubt in all; half of them for slots that do not answer.
            slot_queue_events: How many may wait for one slot, so that one slot that is away can't fill the whole queue.
            reads_waiting: How many readers may wait.
            deadline_s: How long a caller waits at most.
            own: The shard that this client is part of, if it is part of one.
        """
        self._blame = Blame(own)
        self._source = source
        self._deadline_s = deadline_s
        self._writing = Writing(
            lambda: source.state,
            queue_events=queue_events,
            slot_queue_events=slot_queue_events,
            wake=self._wake,
            reread_map=source.refresh_soon,
            blame=self._blame,
        )
        self._reading = Reading(
            lambda: source.state, readers_max=reads_waiting, wake=self._wake, reread_map=source.refresh_soon
        )
        self._readiness = SharedLook(self._look)
        self._refusing: list[str] = []
        self._standing: Standing | None = None
        self._links: dict[str, Link] = {}
        self._timer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin: from now on deadlines pass and shards are called. The source must have a state."""
        self._loop = asyncio.get_running_loop()
        self._blame.start(self._loop.time())
        self._timer = kept_up(self._tick_forever, name="client timer")
        self._source.on_change(self._map_changed)

    async def close(self) -> None:
        """End all links. Who still waits gets an error."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(link.close() for link in self._links.values()), return_exceptions=True)
        await self._readiness.close()
        self._links.clear()
        self._writing.close()
        self._reading.close()
        self._blame.close()

    def overload(self) -> Overloaded | None:
        """Return what ``record`` would raise for any event, because the queue of all events is full; else None."""
        return self._writing.overload()

    def record(self, event: Event) -> asyncio.Future[None]:
        """Count one valid event.

        Returns:
            A future that is done when the event is durable and counted. It fails with ``Unavailable`` (not counted),
            ``InDoubt`` (perhaps counted, now or later) or ``InvalidEvent`` (refused by the shard).

        Raises:
            Overloaded: A queue is full; not counted.
            SetAside: Shards died of it; not sent.
        """
        return self.record_all((event,))

    def record_all(self, events: Sequence[Event], timeout_s: float | None = None) -> asyncio.Future[None]:
        """Count one or more valid events; either all are taken in, or none.

        Returns and raises what ``record`` does; after a failed future some of the events may be counted.
        """
        receipt = Receipt(len(events), self._loop)
        self._writing.add(events, self._deadline(timeout_s), receipt)
        return receipt.future

    def read_hour(self, hour: int, timeout_s: float | None = None) -> asyncio.Future[HourCounts]:
        """Read the exact numbers of an hour.

        Returns:
            A future with the numbers. It fails with ``Unavailable`` if some part can't be had in time.

        Raises:
            Overloaded: Too many readers wait.
        """
        future: asyncio.Future[HourCounts] = self._loop.create_future()
        self._reading.add(hour, self._deadline(timeout_s), future, self._loop.time())
        return future

    async def not_serving(self) -> list[str]:
        """Return why some slot can't be written or read; empty when every slot has a serving primary.

        Cost: one call to each shard at most, shared by all who ask within ``KEEP_S``.
        """
        return await self._readiness.ask(self._loop.time())

    def refusing(self) -> list[str]:
        """Return where something is refused although it is served, as the last look of ``not_serving`` found it."""
        return self._refusing

    async def standing(self) -> Standing | None:
        """Return how the whole cluster stands, by the map that is known here and what its shards say.

        Cost: that of ``not_serving``, and shared with it.
        """
        await self._readiness.ask(self._loop.time())
        return self._standing

    async def _look(self) -> list[str]:
        links = {shard: self._link(shard) for shard in self._source.state.members}
        found = await readiness.look(
            self._source.state, {shard: link.stub for shard, link in links.items() if link is not None}
        )
        self._refusing, self._standing = found.refusing, found.standing
        return found.not_serving + readiness.broken_streams(
            {shard: link.failures for shard, link in self._links.items()}
        )

    @property
    def events_set_aside(self) -> int:
        """How often an event was set aside because shards died of it."""
        return self._blame.set_aside

    def _deadline(self, timeout_s: float | None) -> float:
        return self._loop.time() + min(self._deadline_s, self._deadline_s if timeout_s is None else timeout_s)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self._loop.time()
            try:
                self._writing.tick(now)
                self._reading.tick(now)
            except Exception:  # Without the timer no deadline would pass any more.
                log.exception("client_timer_failed")

    def _map_changed(self, state: ClusterState) -> None:
        for shard in [shard for shard, link in self._links.items() if state.address_of(shard) != link.address]:
            aside(self._links.pop(shard).close(), name=f"end of the link to {shard}")
            self._link_broken(shard, refused=False)
        self._writing.map_changed(self._loop.time())
        self._reading.map_changed()

    def _wake(self, shard: str) -> bool:
        link = self._link(shard)
        if link is None:
            return False
        link.wake()
        return True

    def _link(self, shard: str) -> Link | None:
        held = self._links.get(shard)
        if held is not None:
            return held
        address = self._source.state.address_of(shard)
        if address is None:
            return None  # It registered after our last look at etcd.
        link: Link = ShardLink(
            shard,
            address,
            method=lambda stub: stub.Exchange,
            metadata=lambda: peer_metadata(self._source.state, shard),
            fill=lambda: self._fill(shard),
            on_response=self._on_response,
            on_broken=lambda refused: self._link_broken(shard, refused=refused),
        )
        self._links[shard] = link
        link.start(f"link to {shard}")
        return link

    def _fill(self, shard: str) -> node_pb2.ExchangeRequest | None:
        request = node_pb2.ExchangeRequest()
        self._writing.fill(shard, request, self._loop.time())
        self._reading.fill(shard, request)
        return request if request.sub_batches or request.reads else None

    def _on_response(self, response: node_pb2.ExchangeResponse) -> None:
        now = self._loop.time()
        for answer in response.sub_batches:
            self._writing.answer(answer, now)
        for hour_answer in response.reads:
            self._reading.answer(hour_answer, now)

    def _link_broken(self, shard: str, *, refused: bool) -> None:
        self._source.refresh_soon()  # Another may be primary of its slots by now.
        now = self._loop.time()
        self._writing.link_broken(shard, now, refused=refused)
        self._reading.link_broken(shard, now)
