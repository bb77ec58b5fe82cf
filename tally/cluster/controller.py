"""Runs inside every shard: one of them is elected, plans, and alone writes the map.

Invariant: a map is written only on the map that was planned from, and only while the seat is the one that we took.
So a controller that was deposed without noticing changes nothing.

What to write is decided in ``plan.py``; here is only the seat and the transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tally.cluster.etcd import CreateRevision, Delete, Etcd, ModRevision, Put
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat
from tally.cluster.plan import next_map
from tally.cluster.reader import ClusterReader
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.cluster.trouble import Trouble
from tally.errors import TallyError

log = structlog.get_logger()

_HINT_S: Final = 2.0


class Controller:
    """One shard's part in the election, and its work while it is elected. Belongs to one event loop."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        reader: ClusterReader,
        *,
        seat: ControllerSeat,
        lease: Callable[[], int],
        hint: Callable[[ClusterState], Awaitable[None]],
        period_s: float = 1.0,
    ) -> None:
        """Prepare; ``run`` takes part.

        Args:
            etcd: The connection; the caller closes it.
            keys: Of the cluster.
            reader: Of the same cluster; its owner runs it.
            seat: What to write into the controller's key when elected.
            lease: Returns the present lease of this shard's registration, 0 without one.
            hint: Told of each new map, to push it to the shards; they read it by themselves if that fails.
            period_s: How often to look when nothing changes.
        """
        self._etcd = etcd
        self._keys = keys
        self._reader = reader
        self._seat = seat
        self._lease = lease
        self._hint = hint
        self._period_s = period_s
        self._seat_revision = 0  # create_revision of the seat that we took; 0: none.
        self._wake = asyncio.Event()
        self._trouble = Trouble("controller")
        reader.on_change(lambda _: self._wake.set())

    @property
    def elected(self) -> bool:
        """Whether the seat is ours, as far as this process knows."""
        return self._seat_revision != 0 and self._reader.state.controller_revision == self._seat_revision

    async def run(self) -> None:
        """Take part until cancelled; the reader must have been started."""
        while True:
            self._wake.clear()
            try:
                await self._round()
            except TallyError as exc:
                # A transaction without an answer too: the next round reads all afresh before it plans.
                self._trouble.met(exc)
            else:
                self._trouble.over()
            try:
                async with asyncio.timeout(self._period_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        held = self._reader.state.controller
        if held is not None and held.shard != self._seat.shard:
            return  # Somebody else's; the reader wakes us when that changes.
        state = await self._reader.refresh()
        if state.controller is None:
            await self._take_seat()
        elif self.elected:
            wanted = next_map(state)
            if wanted is not None:
                await self._write_map(wanted, state)
        elif state.controller.shard == self._seat.shard:
            await self._clear_seat(state.controller_revision)

    async def _take_seat(self) -> None:
        lease = self._lease()
        if lease == 0:
            return
        taken = await self._etcd.commit(
            [CreateRevision(self._keys.controller, 0)], [Put(self._keys.controller, self._seat.to_json(), lease)]
        )
        if taken.ok:
            self._seat_revision = taken.revision
            log.info("controller_elected", shard=self._seat.shard, revision=taken.revision)
        self._reader.refresh_soon()

    async def _clear_seat(self, revision: int) -> None:
        """Delete a seat in our name that we do not know.

        An earlier process of this shard left it, or we took it ourselves and never got the answer; under our lease
        that one would not run out. It is not ours to use: its revision may be another process's guard.
        """
        await self._etcd.commit([CreateRevision(self._keys.controller, revision)], [Delete(self._keys.controller)])
        log.info("controller_seat_cleared", shard=self._seat.shard, revision=revision)
        self._reader.refresh_soon()

    async def _write_map(self, wanted: SlotMap, state: ClusterState) -> None:
        written = await self._etcd.commit(
            [
                CreateRevision(self._keys.controller, self._seat_revision),
                ModRevision(self._keys.map, state.map_revision),
            ],
            [Put(self._keys.map, wanted.to_json())],
        )
        if not written.ok:
            log.warning("map_not_written", shard=self._seat.shard, seen_revision=state.map_revision)
            return
        log.info("map_written", revision=written.revision, slots_per_primary=dict(wanted.slots_per_primary()))
        await self._give_hint(await self._reader.refresh())

    async def _give_hint(self, state: ClusterState) -> None:
        try:
            async with asyncio.timeout(_HINT_S):
                await self._hint(state)
        except Exception as exc:  # noqa: BLE001 - Whatever it was, the shards read the map by themselves.
            log.warning("map_hint_failed", reason=repr(exc))
