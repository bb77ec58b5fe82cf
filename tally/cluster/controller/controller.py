"""Runs inside every shard: one of them is elected, plans, executes what primaries ask for, and alone writes the map.

Invariants:
  * a map is written only on the map that it was made from, and only while the seat is the one that we took: so a
    controller that was deposed without noticing changes nothing;
  * nothing is changed before it was planned, nor while a plan finds that the map may not be the newest there was;
  * one transaction is under way at a time; requests come first, then a plan that is due, so neither starves the other;
  * a doubted request waits for a look at the member that it is about, and nobody else waits for that;
  * a caller is told "executed" only after the transaction was acknowledged.

What to write is decided in ``plan.py`` and ``row_requests.py``; here is only the seat and the transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from tally.cluster.controller.health_calls import HEALTH_S, AskHealth, HealthCalls
from tally.cluster.controller.hints import GiveSwitches, MapHints, SwitchHints, by_primary
from tally.cluster.controller.row_requests import Believed, Looks, Outcome, RowCall, WaitingCalls, outcome_of
from tally.cluster.etcd import CreateRevision, Delete, Etcd, ModRevision, Put, ValueIs
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat
from tally.cluster.planning.health import Memory, ShardHealth
from tally.cluster.planning.plan import next_step
from tally.cluster.planning.standing import Standing, standing
from tally.cluster.planning.standstill import Standstill
from tally.cluster.plausible import credible
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Refusal, Request
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.cluster.trouble import Trouble
from tally.errors import EtcdUnavailable, NotController, TallyError, Unavailable
from tally.tasks import until_cancelled

log = structlog.get_logger()

PLAN_GAP_S: Final = 0.05  # Between two plans, however much happens: a plan looks at every row.
_ATTEMPTS: Final = 5
_RETRY_S: Final = 0.1
_HELD: Final = "too few shards live"
_NOTHING_PLANNED: Final = Believed(standstill=Standstill.NOT_PLANNED)


@dataclass(slots=True)
class _Term:
    """What a controller knows from its election on; a new one begins with nothing.

    Attributes:
        seat_revision: ``create_revision`` of the seat that we took; 0: none.
        memory: From the last plan.
        believed: What requests are held against, by the last plan.
        notes: Of the last plan.
    """

    seat_revision: int = 0
    memory: Memory | None = None
    believed: Believed = _NOTHING_PLANNED
    notes: Mapping[str, int] = field(default_factory=dict)


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
        ask_health: AskHealth,
        give_switches: GiveSwitches,
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
            ask_health: Asks one shard, by name and address, how it is; None if it is silent.
            give_switches: Asks the primary at an address, of that name, to hand slots over: slot -> to whom.
            period_s: How often to look when nothing changes.
        """
        self._etcd = etcd
        self._keys = keys
        self._reader = reader
        self._seat = seat
        self._lease = lease
        self._hint = hint
        self._period_s = period_s
        self._term = _Term()
        self._waiting = WaitingCalls()

        async def ask_credible(shard: str, address: str) -> ShardHealth | None:
            health = await ask_health(shard, address)
            return None if health is None else credible(health, reader.state.map)

        self._health = HealthCalls(ask_credible, self._plan_soon)
        self._map_hints = MapHints(self._give_hint)
        self._switches = SwitchHints(give_switches, period_s)
        self._planned_at = float("-inf")  # When the last plan was begun.
        self._plan_at = float("-inf")  # When the next one is due.
        self._wake = asyncio.Event()
        self._ask_now = asyncio.Event()
        self._trouble = Trouble("controller")
        reader.on_change(self._state_changed)

    @property
    def elected(self) -> bool:
        """Whether the seat is ours, as far as this process knows."""
        revision, state = self._term.seat_revision, self._reader.state
        # The name too: a restored etcd may have given the same revision to another one's seat.
        return revision != 0 and state.controller_revision == revision and state.controller == self._seat

    def standing(self) -> Standing | None:
        """Return how the cluster stands, by answers of the last two seconds; None unless elected and all were asked."""
        state, answers, now = self._reader.state, self._health.answers, self._now()
        if not self.elected or answers.unknown(state.members, now):
            return None
        believed = answers.believed(now).items()
        return standing(state, {shard: health.told if health is not None else None for shard, health in believed})

    async def run(self) -> None:
        """Take part until cancelled; the reader must have been started."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(until_cancelled(self._ask_for_health), name="health calls")
                group.create_task(until_cancelled(self._work), name="plans and requests")
        finally:
            self._term = _Term()  # Who asks from now on is refused; nobody would answer.
            for call in self._waiting.take_all():
                call.fail(NotController(self._seat.shard))
            await self._map_hints.close()
            await self._switches.close()
            await self._health.close()

    async def request(self, requests: Sequence[Request]) -> list[Refusal | None]:
        """Execute what primaries ask for (rule 11); with others who ask at the same time, in one transaction.

        Who asks for what is doubted waits until a call to each member that it is about has ended, two seconds at most.

        Returns:
            One answer for each request, in their order: None if it was executed, and is in etcd.

        Raises:
            NotController: Not elected, or not any more; what was asked for may have been executed.
            Overloaded: Too many wait; nothing was executed.
            TallyError: etcd does not answer; what was asked for may have been executed.
        """
        if not self.elected:
            raise NotController(self._seat.shard)
        if not requests:
            return []
        looks: Looks = {}
        if doubted := {request.shard for request in requests if request.doubted}:
            with self._waiting.room_for(len(requests)):
                looks = await self._look_at(sorted(doubted))
            if not self.elected:
                raise NotController(self._seat.shard)
        call = self._waiting.add(requests, looks, self._now())
        self._wake.set()
        return await call.answered()

    async def _look_at(self, shards: Sequence[str]) -> Looks:
        """Ask these shards now; who has no address gives no answer."""
        addresses = self._reader.state.addresses()
        there = [shard for shard in shards if shard in addresses]
        answers = await asyncio.gather(*(self._health.look(shard, addresses[shard]) for shard in there))
        return dict(zip(there, answers, strict=True))

    # When to do something.

    async def _work(self) -> None:
        """Do what is due, one thing at a time."""
        while True:
            while not self._waiting and (left_s := self._plan_at - self._now()) > 0:
                self._wake.clear()
                await _wait(self._wake, left_s)
            if self._waiting:
                await self._execute_some()
            if self._now() >= self._plan_at:
                self._planned_at = self._now()
                self._plan_at = self._planned_at + self._period_s
                try:
                    await self._round()
                except TallyError as exc:
                    # A transaction without an answer too: the next round reads all afresh before it plans.
                    self._trouble.met(exc)
                else:
                    self._trouble.over()

    def _plan_soon(self) -> None:
        self._plan_at = min(self._plan_at, self._planned_at + PLAN_GAP_S)
        self._wake.set()

    def _state_changed(self, state: ClusterState) -> None:
        self._plan_soon()
        if self._health.answers.missing(state.members):
            self._ask_now.set()

    async def _ask_for_health(self) -> None:
        while True:
            self._ask_now.clear()
            if self.elected:
                self._health.ask_all(self._reader.state.addresses())
            await _wait(self._ask_now, HEALTH_S)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # The election.

    async def _round(self) -> None:
        held = self._reader.state.controller
        if held is not None and held.shard != self._seat.shard:
            return  # Somebody else's; the reader wakes us when that changes.
        state = await self._reader.refresh()
        if state.controller is None:
            await self._take_seat()
        elif self.elected:
            await self._plan(state)
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
            self._term = _Term(taken.revision)
            self._health.forget()
            # The reader may have seen the seat already, and then tells nothing new.
            self._plan_soon()
            self._ask_now.set()
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

    # Plans and requests.

    async def _plan(self, state: ClusterState) -> None:
        """Plan once, and do what was planned."""
        term = self._term
        now = self._now()
        if self._health.answers.unknown(state.members, now):
            return  # Else who was not asked would look dead; each is asked within a second.
        # In a thread: where the slots of a large cluster are to be takes a second to compute.
        plan = await asyncio.to_thread(next_step, state, self._health.answers.believed(now), now, term.memory)
        term.memory = plan.memory
        self._note_standstill(plan.standstill)
        term.believed = Believed(_HELD if plan.held else "", plan.standstill, plan.unreachable)
        if plan.notes.keys() != term.notes.keys():
            log.info("controller_planned", shard=self._seat.shard, **plan.notes)
        term.notes = plan.notes
        if plan.map is not None and not await self._write_map(plan.map, state, (), **plan.notes):
            return
        slot_map = plan.map or state.map
        if slot_map is not None:
            for primary, switches in by_primary(slot_map, plan.switches).items():
                address = state.address_of(primary)
                if address is not None:
                    self._switches.give(primary, address, switches)

    def _note_standstill(self, found: Standstill | None) -> None:
        before = self._term.believed.standstill
        if found is Standstill.UNSURE:
            self._plan_soon()
        elif found is not None and found is not before:
            log.error(found.name.lower(), shard=self._seat.shard, reason=found.value)

    async def _execute_some(self) -> None:
        """Execute what waits, as much as goes into one transaction, and answer."""
        await asyncio.sleep(self._waiting.gather_s(self._now()))
        calls = self._waiting.take()
        try:
            answers = list((await self._execute(calls)).answers)
            for call in calls:
                count = len(call.requests)
                call.settle(answers[:count])
                del answers[:count]
        except TallyError as exc:
            if not isinstance(exc, NotController):
                self._trouble.met(exc)
            for call in calls:
                call.fail(exc)
        finally:
            for call in calls:  # Only if we are cancelled: nobody is to wait for ever.
                call.fail(NotController(self._seat.shard))

    async def _execute(self, calls: Sequence[RowCall]) -> Outcome:
        requests = [request for call in calls for request in call.requests]
        looks = [look for call in calls for look in call.looks]
        failure: TallyError = Unavailable("the map changed whenever it was to be written")
        for _ in range(_ATTEMPTS):
            try:
                # After a transaction without an answer too: what it did after all is refused now, its epoch is over.
                state = await self._reader.refresh()
                if not self.elected:
                    raise NotController(self._seat.shard)
                outcome = outcome_of(state, requests, looks, self._term.believed)
                guards = self._guards_of(state, requests)
                if outcome.map is None or await self._write_map(outcome.map, state, guards, **_notes(outcome)):
                    return outcome
            except EtcdUnavailable as exc:
                failure = exc
                await asyncio.sleep(_RETRY_S)
        raise failure

    def _guards_of(self, state: ClusterState, requests: Sequence[Request]) -> list[ValueIs]:
        """Return what is true of those who ask: until the map is written no other process may register (rule 11)."""
        slot_map = state.map
        asking = {
            slot_map.rows[request.slot].primary: request.process
            for request in requests
            if slot_map is not None and 0 <= request.slot < len(slot_map.rows)
        }
        return [
            ValueIs(self._keys.alive_of(shard), process)
            for shard, process in sorted(asking.items())
            if state.alive.get(shard) == process
        ]

    async def _write_map(
        self, wanted: SlotMap, state: ClusterState, guards: Sequence[ValueIs] = (), **notes: int
    ) -> bool:
        """Write a map that was made from ``state``, if ``guards`` are so too.

        Returns:
            False if they are not, or somebody else has written, or taken the seat.
        """
        assert self._term.seat_revision != 0  # As a guard, 0 would mean that nobody has the seat.
        written = await self._etcd.commit(
            [
                CreateRevision(self._keys.controller, self._term.seat_revision),
                ValueIs(self._keys.controller, self._seat.to_json()),
                ModRevision(self._keys.map, state.map_revision),
                *guards,
            ],
            [Put(self._keys.map, wanted.to_json())],
        )
        if not written.ok:
            log.warning("map_not_written", shard=self._seat.shard, seen_revision=state.map_revision)
            self._reader.distrust()
            return False
        log.info("map_written", revision=written.revision, slots_per_primary=dict(wanted.slots_per_primary()), **notes)
        self._map_hints.give()
        return True

    async def _give_hint(self) -> None:
        await self._hint(await self._reader.refresh())


def _notes(outcome: Outcome) -> dict[str, int]:
    """Return what the log says of requests."""
    executed = {"requests_executed": outcome.answers.count(None)}
    return executed | ({"promoted_instead_of_removed": outcome.promoted} if outcome.promoted else {})


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for ``event``, not longer than ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
