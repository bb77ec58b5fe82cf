"""Steps of copies: what happens goes into a copy's rules, one thing after the other, and what these want is done.

Invariants:
  * a step that writes is followed by a flush before the same copy takes the next one (``replica.Replica``);
  * the worker is told of all that is to be built or flushed, and nothing is answered before it said that it was;
  * after an exception in a step nothing of the shard is answered any more: the rules may know what is not written.

What waits for a flush or for an op is taken from here by the worker's passes (``passes.py``).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog

from protos.tally.internal.v1 import node_pb2
from shard.counting.writers import Answer
from shard.engine.points import Point, Reached
from shard.engine.redundancy import Redundancy
from shard.engine.refusals import Reason, Refusals
from shard.engine.slot_copy import Arrived, SlotCopy, Step
from shard.replica import words
from shard.replica.replica import Role
from shard.replica.words import Effects
from tally.cluster.rows import Change, Request

log = structlog.get_logger()

_REASONS: Final = {
    node_pb2.OUTCOME_NOT_READY: Reason.NO_ROOM_FOR_WRITERS,
    node_pb2.OUTCOME_FORGOTTEN: Reason.WRITER_FORGOTTEN,
    node_pb2.OUTCOME_OUT_OF_ORDER: Reason.OUT_OF_ORDER,
    node_pb2.OUTCOME_CONTENT_DIFFERS: Reason.CONTENT_DIFFERS,
}
_ASKED: Final = {Change.ADD: Point.ADD_ASKED, Change.PROMOTE: Point.PROMOTE_ASKED}


class Outside(Protocol):
    """How copies reach others. None of these waits; what comes of it comes back as the next step."""

    def call(self, shard: str, slot: int, call: int, message: words.Message) -> None:
        """Ask a copy on another shard."""

    def ask(self, request: Request) -> None:
        """Ask the controller for a change of a row."""

    def reread_map(self) -> None:
        """Read the map soon: there may be a newer one."""


class Work:
    """Tells the worker that there is something to do, or that it must end."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.failure: Exception | None = None

    def wake(self) -> None:
        """Say that there is something to do."""
        self.there.set()

    def fail(self, exc: Exception) -> None:
        """Let the worker end the process: a disk that can't be read is not to be written either (rule 16)."""
        self.failure = self.failure or exc
        self.there.set()


Act = Callable[[SlotCopy, Any], None]
"""Does one action of a copy's rules."""


class Steps:
    """Lets copies take steps. Belongs to one event loop.

    Attributes:
        to_build: Slots whose rules asked for an op, in order.
        unflushed: Copies that wrote something, and what comes after the flush.
        queued_events: How many events wait for their op, or for its commit.
        redundancy: Is told of terms that ended.
        refusals: Is told of all that is refused in slots that are served.
    """

    def __init__(
        self, outside: Outside, work: Work, redundancy: Redundancy, reached: Reached, process: Callable[[], str]
    ) -> None:
        """Prepare.

        Args:
            outside: The other shards and the controller.
            work: The worker is woken, and told of failures, by this.
            redundancy: Adds up what a monitor is told.
            reached: Told of each step of a move.
            process: Returns what this process writes into its alive key.
        """
        self.to_build: dict[int, None] = {}
        self.unflushed: list[tuple[SlotCopy, Effects]] = []
        self.queued_events = 0
        self.redundancy: Final = redundancy
        self.refusals: Final = Refusals()
        self._outside = outside
        self._work = work
        self._reached = reached
        self._process = process
        self._acts: dict[type, Act] = {
            words.Build: self._act_build,
            words.Commit: self._act_commit,
            words.Refuse: self._act_refuse,
            words.Tell: self._act_tell,
            words.Ask: self._act_ask,
            words.Ahead: self._act_ahead,
            words.RereadMap: self._act_reread_map,
        }

    def on(self, kind: type, act: Act) -> None:
        """Let another file do the actions of one kind: those that are answered by others."""
        self._acts[kind] = act

    @staticmethod
    def now() -> float:
        """Return the time that the rules go by, in seconds."""
        return time.monotonic()

    def is_ahead(self, copy: SlotCopy, epoch: int) -> bool:
        """Tell whether a sender knows a newer row; who knows an older one is served, if this shard serves."""
        if epoch <= copy.epoch:
            return False
        self._outside.reread_map()
        return True

    def submit(self, copy: SlotCopy, arrived: Arrived) -> None:
        """Take a sub-batch in."""
        self.queued_events += len(arrived.batch.hours)
        copy.submitted.append(arrived)
        self.drain(copy)

    def take(self, copy: SlotCopy, act: Step, *args: Any) -> None:
        """Let something happen to a copy, now or when what it wrote is flushed."""
        if copy.busy:
            copy.inbox.append((act, args))
            return
        effects = Effects()
        try:
            act(*args, self.now(), effects)
            self.carry_out(copy, effects)
        except Exception as exc:
            self._work.fail(exc)
            raise

    def carry_out(self, copy: SlotCopy, effects: Effects) -> None:
        """Do what a step wants done; what must wait for a flush is left to the worker."""
        if effects.writes:
            copy.busy = True
            self.unflushed.append((copy, effects))
            self._work.wake()
        if copy.term is not copy.replica.term:
            self._term_ended(copy)
        for act in effects.now:
            self._acts[type(act)](copy, act)
        if not effects.writes:
            self._do_later(copy, effects)

    def flushed(self, copy: SlotCopy, effects: Effects) -> None:
        """Note that what a step wrote is durable; ``drain`` the copy when this was said of all copies."""
        for write in effects.writes:
            kind = type(write)
            if kind is words.Install or kind is words.Rename:
                self._reached(Point.COPY_INSTALLED)
            elif kind is words.Renounce:
                log.error("copy_renounced", slot=copy.slot, head=copy.replica.stored.head.name.opnum)
        copy.busy = False
        copy.replica.flushed(self.now())
        self._do_later(copy, effects)

    def _do_later(self, copy: SlotCopy, effects: Effects) -> None:
        for act in effects.later:
            self._acts[type(act)](copy, act)

    def _term_ended(self, copy: SlotCopy) -> None:
        """Leave what was under way in doubt (rule 14)."""
        if copy.term is not None:
            self.redundancy.term_ended(of=copy.term.row, known=copy.replica.row)
        copy.term = copy.replica.term
        if copy.term is not None:
            self._reached(Point.TERM_BEGUN)
        for arrived in copy.take_answering():
            self._answer(arrived, Answer(node_pb2.OUTCOME_NOT_READY), copy)

    def drain(self, copy: SlotCopy) -> None:
        """Let happen what waited while the copy was busy; sub-batches all at once, so that they make one op."""
        while not copy.busy:
            if copy.inbox:
                act, args = copy.inbox.popleft()
                self.take(copy, act, *args)
            elif copy.submitted:
                submitted, copy.submitted = copy.submitted, []
                self.take(copy, copy.replica.submit, submitted)
            else:
                return

    def _answer(self, arrived: Arrived, answer: Answer, copy: SlotCopy, *, opnum: int = 0) -> None:
        self.queued_events -= len(arrived.batch.hours)
        arrived.reply(answer, copy.epoch, opnum)

    # Actions.

    def _act_build(self, copy: SlotCopy, act: words.Build) -> None:
        assert not copy.busy
        assert copy.building is None
        copy.building, copy.busy = act, True
        self.to_build[copy.slot] = None
        self._work.wake()

    def _act_commit(self, copy: SlotCopy, _act: words.Commit) -> None:
        counted = copy.under_way
        assert counted is not None
        for arrived, answer in zip(copy.take_answering(), counted.answers, strict=True):
            if answer.outcome == node_pb2.OUTCOME_CONTENT_DIFFERS:
                log.error("sub_batch_content_differs", slot=copy.slot, seq=arrived.batch.seq)
            reason = _REASONS.get(answer.outcome)
            if reason is not None:
                self.refusals.note(copy.slot, reason, self.now())
            told = answer if reason is None else answer._replace(reason=reason)
            self._answer(arrived, told, copy, opnum=counted.record.opnum)

    def _act_refuse(self, copy: SlotCopy, act: words.Refuse) -> None:
        outcome: node_pb2.Outcome.ValueType = act.outcome  # type: ignore[assignment]
        reason = ""
        if copy.replica.role is Role.SERVING:
            reason = self._note_refusal(copy, readers=not isinstance(act.tokens[0], Arrived))
        for token in act.tokens:
            if isinstance(token, Arrived):
                self._answer(token, Answer(outcome, reason=reason), copy)
            else:
                token.refuse(outcome)

    def _note_refusal(self, copy: SlotCopy, *, readers: bool) -> Reason:
        row = copy.replica.row
        if readers:
            reason = Reason.READ_NOT_CONFIRMED
        elif row is not None and len(row.in_sync) < row.min_copies:
            reason = Reason.FEW_COPIES
        else:
            reason = Reason.OP_NOT_COMMITTED
        self.refusals.note(copy.slot, reason, self.now())
        return reason

    def _act_tell(self, _copy: SlotCopy, act: words.Tell) -> None:
        for read in act.tokens:
            read.confirm()

    def _act_ask(self, copy: SlotCopy, act: words.Ask) -> None:
        if act.change in _ASKED:
            self._reached(_ASKED[act.change])
        asked = Request(act.change, copy.slot, act.epoch, act.shard, act.incarnation, self._process(), act.head)
        self._outside.ask(asked)

    @staticmethod
    def _act_ahead(copy: SlotCopy, act: words.Ahead) -> None:
        log.error(
            "joiner_is_ahead",
            slot=copy.slot,
            joiner=act.shard,
            its_opnum=act.head.opnum,
            opnum=act.mine.opnum,
            advice="this slot lost what the joiner has still; it gets no other copy, and keeps that for tally give-up",
        )

    def _act_reread_map(self, _copy: SlotCopy, _act: words.RereadMap) -> None:
        self._outside.reread_map()
