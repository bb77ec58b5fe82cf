"""The writing half of the routed client: callers' events into outboxes, sub-batches to shards, answers to callers.

A thin driver of ``outbox``, which holds the rules; what becomes of events that shards died of, ``blame`` knows,
``stalls`` what slots that do not answer may hold, and ``shut`` which slots refuse all that is new.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import structlog

from protos.tally.internal.v1 import node_pb2
from tally.client.blame import Blame
from tally.client.jitter import jitter
from tally.client.outbox import Question, SlotOutbox, SubBatch
from tally.client.receipt import Receipt
from tally.client.shut import Shut
from tally.client.stalls import Stalls
from tally.client.suspects import name_of
from tally.cluster.state import ClusterState
from tally.errors import InDoubt, Overloaded, Refusing, SetAside, Unavailable
from tally.event import Event
from tally.hashing import Shape, Slots

log = structlog.get_logger()

MESSAGE_EVENTS_MAX: Final = 8_000  # Of 256 bytes of name each at most: far below the limit of a message.
ROUND_MAX_S: Final = 0.05

_MAP_IS_OLD: Final = {node_pb2.OUTCOME_NOT_OWNER, node_pb2.OUTCOME_OUT_OF_ORDER, node_pb2.OUTCOME_FORGOTTEN}


def fresh_writers() -> Iterator[bytes]:
    """Give writer ids that nobody else has: 128 random bits each."""
    while True:
        yield os.urandom(16)


class Writing:
    """Events that are not settled yet. All methods belong to one event loop."""

    def __init__(
        self,
        state: Callable[[], ClusterState],
        *,
        queue_events: int,
        slot_queue_events: int,
        wake: Callable[[str], bool],
        reread_map: Callable[[], None],
        blame: Blame | None = None,
    ) -> None:
        """Start empty.

        Args:
            state: What is known of the cluster now.
            queue_events: How many events may wait or be in doubt in all; half of them for slots that do not answer.
            slot_queue_events: How many may wait for one slot.
            wake: Tells a shard's link that there is something to send; False if there is no way to that shard yet.
            reread_map: Called when a shard knows a newer map.
            blame: What is known of shards that died; None: nothing.
        """
        self._state = state
        self._queue_events = queue_events
        self._slot_queue_events = slot_queue_events
        self._wake = wake
        self._reread_map = reread_map
        self._overload: Final = Overloaded("the queue of events", queue_events)
        self._events = 0
        self._stalls: Final = Stalls(queue_events)
        self._shut: Final = Shut()
        self._writers = fresh_writers()
        self._ids = itertools.count(1)
        self._slots = Slots(Shape())
        self._outboxes: dict[int, SlotOutbox[Receipt]] = {}
        self._busy: set[int] = set()  # Slots whose outbox is not idle.
        self._ready: dict[str, dict[int, None]] = {}  # Shard -> slots with something to send, in order.
        self._slot_of_batch: dict[int, int] = {}  # Only of those in doubt, and of questions that are open.
        self._sent_to: dict[int, str] = {}  # Slot -> the shard that is to answer the last attempt of its sub-batch.
        self._rounds: dict[str, float] = {}  # Shard -> when a message went there, of which nothing is answered yet.
        self._blame = Blame() if blame is None else blame

    def overload(self) -> Overloaded | None:
        """Return what any event would be refused with; None if there is room."""
        return self._overload if self._events >= self._queue_events else None

    def add(self, events: Sequence[Event], deadline: float, receipt: Receipt) -> None:
        """Take valid events in, all or none; ``receipt`` learns what becomes of each.

        Raises:
            Overloaded: A queue is full; none was taken.
            SetAside: Shards died of one of them; none was taken.
            Refusing: The primary of a slot says that it takes nothing; none was taken.
        """
        self._blame.suspects.check(events)
        if self._events + len(events) > self._queue_events:
            raise Overloaded("the queue of events", self._queue_events)
        shape = self._state().config.shape
        if shape is not self._slots.shape:
            self._slots = Slots(shape)
        slots = [self._slots.of_event(event.hour, event.user) for event in events]
        if self._shut:
            self._shut.check(slots)
        stalled = bool(self._stalls)
        if stalled:
            self._stalls.check(slots)
        if len(events) > 1:
            self._check_room(slots)
        for slot, event in zip(slots, events, strict=True):
            outbox = self._outbox(slot)
            outbox.add(event, deadline, receipt)
            self._events += 1
            if outbox.in_doubt is None:
                self._make_ready(slot)
            else:
                self._busy.add(slot)
        if stalled:
            self._stalls.joined(slots)

    def _check_room(self, slots: Sequence[int]) -> None:
        wanted: dict[int, int] = {}
        for slot in slots:
            wanted[slot] = wanted.get(slot, 0) + 1
        for slot, count in wanted.items():
            if self._outbox(slot).room() < count:
                raise Overloaded(f"the queue of slot {slot}", self._slot_queue_events)

    def _outbox(self, slot: int) -> SlotOutbox[Receipt]:
        outbox = self._outboxes.get(slot)
        if outbox is None:
            outbox = self._outboxes[slot] = SlotOutbox(
                slot,
                events_max=self._slot_queue_events,
                writers=self._writers,
                ids=self._ids,
                suspects=self._blame.suspects,
            )
        return outbox

    def _make_ready(self, slot: int) -> None:
        self._busy.add(slot)
        held = self._state().map
        # Without a map, or a way to the shard, the timer comes back to it.
        if held is not None and self._wake(shard := held.rows[slot].primary):
            self._ready.setdefault(shard, {})[slot] = None

    def fill(self, shard: str, request: node_pb2.ExchangeRequest, now: float) -> None:
        """Put what is ready for a shard into a message; nothing while the last one is on its way.

        All slots of a shard go together, round by round: the shard counts them in one pass, with one flush.
        """
        if shard in self._rounds:
            return
        slots, held, events = self._ready.get(shard), self._state().map, 0
        asks = False
        while slots and held is not None and events < MESSAGE_EVENTS_MAX:
            slot = next(iter(slots))
            del slots[slot]
            outbox = self._outboxes[slot]
            self._expire(outbox, now)
            if outbox.due(now) and not outbox.asks_next(now) and self._blame.holds_back(outbox, shard, now):
                continue
            next_one = outbox.next_to_send(now)
            if next_one is None:
                continue
            self._slot_of_batch[next_one.id] = slot
            self._sent_to[slot] = shard
            epoch = held.rows[slot].epoch
            if isinstance(next_one, Question):
                asks = True
                request.sub_batches.add(id=next_one.id, slot=slot, epoch=epoch)
            else:
                events += len(next_one.entries)
                self._blame.sent(next_one, shard)
                request.sub_batches.append(_to_wire(next_one, epoch))
        if events or asks:
            self._rounds[shard] = now

    def _end_round(self, shard: str) -> None:
        if self._rounds.pop(shard, None) is not None and self._ready.get(shard):
            self._wake(shard)

    def answer(self, answer: node_pb2.SubBatchAnswer, now: float) -> None:
        """Take a shard's answer."""
        slot = self._slot_of_batch.get(answer.id)
        if slot is None:
            return  # A late answer to a repeated attempt.
        outbox, shard = self._outboxes[slot], self._sent_to.get(slot, "")
        self._end_round(shard)
        if outbox.asking is not None and outbox.asking.id == answer.id:
            self._told(outbox, outbox.asking, answer, now)
            return
        for waiting in self._blame.answered(slot):
            self._make_ready(waiting)
        match answer.outcome:
            case node_pb2.OUTCOME_OK if self._fits(outbox, answer):
                self._settle(outbox, answer)
            case node_pb2.OUTCOME_OK | node_pb2.OUTCOME_CONTENT_DIFFERS | node_pb2.OUTCOME_MALFORMED:
                self._give_up(outbox, node_pb2.Outcome.Name(answer.outcome))
            case node_pb2.OUTCOME_OUT_OF_ORDER | node_pb2.OUTCOME_FORGOTTEN if answer.epoch == self._epoch(slot):
                # No newer map explains it: data was given up, or the writer was forgotten.
                self._give_up(outbox, node_pb2.Outcome.Name(answer.outcome))
            case _:
                self._sent_to.pop(slot, None)  # Who answers so does not count it now.
                self._blame.refused(answer.id)
                outbox.hold_off(answer.id, now, jitter())
                if answer.outcome in _MAP_IS_OLD:
                    self._reread_map()
                self._note_reason(outbox, shard, answer, now)

    def _note_reason(
        self, outbox: SlotOutbox[Receipt], shard: str, answer: node_pb2.SubBatchAnswer, now: float
    ) -> None:
        """Tell those who wait why the slot takes nothing, if that will not be over soon; what is in doubt stays so."""
        named = answer.outcome == node_pb2.OUTCOME_NOT_READY and shard != ""
        text = self._shut.refused(outbox.slot, shard, answer.reason if named else "", now)
        if text is None:
            return
        for entry in outbox.in_doubt.entries if outbox.in_doubt is not None else ():
            entry.receipt.fail(InDoubt(text))
        dropped = outbox.drop(lambda _: True)
        self._left(outbox.slot, len(dropped))
        for receipt in dropped:
            receipt.fail(Refusing(text))

    def _told(
        self, outbox: SlotOutbox[Receipt], question: Question, answer: node_pb2.SubBatchAnswer, now: float
    ) -> None:
        """Take the answer to a question, and send what waits for it."""
        self._sent_to.pop(outbox.slot, None)
        if answer.outcome == node_pb2.OUTCOME_OK:
            del self._slot_of_batch[question.id]
            outbox.told(question.id, answer.opnum)
            if not outbox.idle:
                self._make_ready(outbox.slot)
            return
        outbox.hold_off(question.id, now, jitter())
        if answer.outcome in _MAP_IS_OLD:
            self._reread_map()

    @staticmethod
    def _fits(outbox: SlotOutbox[Receipt], answer: node_pb2.SubBatchAnswer) -> bool:
        """Tell whether there is one refusal for each event, or none at all."""
        doubtful = outbox.in_doubt
        return doubtful is not None and len(answer.refusals) in {0, len(doubtful.entries)}

    def _epoch(self, slot: int) -> int:
        held = self._state().map
        return held.rows[slot].epoch if held else 0

    def _settle(self, outbox: SlotOutbox[Receipt], answer: node_pb2.SubBatchAnswer) -> None:
        batch = outbox.settle(answer.id, answer.opnum)
        assert batch is not None
        refusals = answer.refusals or bytes(len(batch.entries))
        for entry, refusal in zip(batch.entries, refusals, strict=True):
            entry.receipt.settle(refusal)
        self._settled(batch, answered=True)

    def _give_up(self, outbox: SlotOutbox[Receipt], reason: str) -> None:
        doubtful = outbox.in_doubt
        assert doubtful is not None
        batch = outbox.give_up(doubtful.id)
        assert batch is not None
        log.error("sub_batch_lost", slot=batch.slot, seq=batch.seq, events=len(batch.entries), reason=reason)
        for entry in batch.entries:
            entry.receipt.fail(InDoubt())
        self._settled(batch, answered=False)

    def _settled(self, batch: SubBatch[Receipt], *, answered: bool) -> None:
        del self._slot_of_batch[batch.id]
        self._blame.over(batch, answered=answered)
        self._sent_to.pop(batch.slot, None)
        self._left(batch.slot, len(batch.entries))
        self._shut.over(batch.slot)
        idle = self._outboxes[batch.slot].idle
        if answered or idle:
            self._stalls.over(batch.slot)
        if idle:
            self._busy.discard(batch.slot)
        else:
            self._make_ready(batch.slot)

    def _left(self, slot: int, events: int) -> None:
        self._events -= events
        self._stalls.left(slot, events)

    def _expire(self, outbox: SlotOutbox[Receipt], now: float) -> None:
        dropped, overdue = outbox.expire(now)
        if dropped:
            self._left(outbox.slot, len(dropped))
        if not (dropped or overdue):
            return
        why = self._shut.why(outbox.slot)
        for receipt in dropped:
            receipt.fail(Refusing(why) if why else Unavailable(f"slot {outbox.slot} could not be written in time"))
        for receipt in overdue:
            receipt.fail(InDoubt(why))

    def tick(self, now: float) -> None:
        """Let time pass: deadlines, and what is to be sent again."""
        self._blame.suspects.tick(now)
        self._shut.tick(now)
        for shard in [shard for shard, since in self._rounds.items() if now - since > ROUND_MAX_S]:
            self._end_round(shard)  # One slot that waits for a copy must not hold up the others.
        for slot in list(self._busy):
            outbox = self._outboxes[slot]
            self._expire(outbox, now)
            if outbox.hopeless(now):
                self._give_up(outbox, "an hour in doubt")
            if outbox.idle:
                self._busy.discard(slot)
                self._stalls.over(slot)
                continue
            self._stalls.busy(slot, now, outbox.events)
            if outbox.due(now):
                self._make_ready(slot)

    def map_changed(self, now: float) -> None:
        """Send what is in doubt again, to wherever the map says now; unless shards died of it."""
        self._judge(self._blame.running(self._state().alive), now)
        held = self._state().map
        self._shut.moved({slot: held.rows[slot].primary for slot in self._shut.slots()} if held is not None else {})
        self._ready.clear()
        self._rounds.clear()
        for slot in list(self._busy):
            self._outboxes[slot].send_again_now()
            self._make_ready(slot)

    def link_broken(self, shard: str, now: float, *, refused: bool) -> None:
        """Send again after a pause what the shard has not answered; unless shards died of it.

        Args:
            shard: Whose stream broke.
            now: The time.
            refused: It never was one: nobody listens there.
        """
        self._rounds.pop(shard, None)
        self._shut.left(shard)
        for slot in [slot for slot, where in self._sent_to.items() if where == shard]:
            del self._sent_to[slot]
            outbox = self._outboxes[slot]
            if outbox.in_doubt is not None:
                if not refused:
                    self._blame.left(outbox.in_doubt, shard, self._state().alive.get(shard), now)
                outbox.hold_off(outbox.in_doubt.id, now, jitter())
            elif outbox.asking is not None:
                outbox.hold_off(outbox.asking.id, now, jitter())
        self._judge(self._blame.stream_ended(shard, refused=refused), now)

    def _judge(self, struck: Sequence[int], now: float) -> None:
        """Give up those of the sub-batches struck by one death with which enough shards died."""
        outboxes = [self._outboxes[self._slot_of_batch[batch_id]] for batch_id in struck]
        doubtful = [(outbox, outbox.in_doubt) for outbox in outboxes if outbox.in_doubt is not None]
        doomed = [(outbox, batch) for outbox, batch in doubtful if self._blame.is_to_be_given_up(batch)]
        for outbox, batch in doomed:
            aside_s = self._blame.given_up(batch, now, sure=len(doomed) == 1)
            self._give_up(outbox, "shards died while it was in doubt there")
            if aside_s is not None:
                self._drop(outbox, name_of(batch.entries[0].event), aside_s)

    def _drop(self, outbox: SlotOutbox[Receipt], name: bytes, aside_s: float) -> None:
        """Refuse the event that was set aside to those too who wait with it."""
        dropped = outbox.drop(lambda event: name_of(event) == name)
        self._left(outbox.slot, len(dropped))
        for receipt in dropped:
            receipt.fail(SetAside(None, aside_s))

    def close(self) -> None:
        """Tell everybody who still waits that it is over."""
        for outbox in self._outboxes.values():
            self._expire(outbox, float("inf"))


def _to_wire(batch: SubBatch[Receipt], epoch: int) -> node_pb2.SubBatch:
    events = [entry.event for entry in batch.entries]
    keys = [event.key for event in events]
    return node_pb2.SubBatch(
        id=batch.id,
        writer=batch.writer,
        seq=batch.seq,
        heard=batch.heard,
        slot=batch.slot,
        epoch=epoch,
        hours=[event.hour for event in events],
        users=[event.user for event in events],
        kinds=bytes([event.kind for event in events]),
        keys=keys if any(keys) else (),
    )
