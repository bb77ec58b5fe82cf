"""One copy of a slot: follower, joiner and, while the map names it, primary.

| what it is | when |
|---|---|
| primary, in a term | the row names it, with its incarnation, in an epoch above the one that it had stored |
| primary without a term | the row names it in an epoch that it holds already: it restarted, and asks for a new one |
| follower | any other complete copy |
| joiner | it is wished for and not in the in-sync set: it calls the primary until it is |

A row older than the one held, or below the stored epoch, is ignored (rules 1 and 4).

A disk may come back older than it was: without the last writes, or as a copy of long ago. So what a process finds is
believed with care:

  * the epoch of a row that was read counts as seen, too (rule 3): a stored epoch that fell is never below those of the
    map, which is read before anything is answered, so no deposed primary is answered OK again;
  * no term is begun in the epoch of the first row (rule 4): perhaps there was one already, and nobody remembers what
    was asked for in it;
  * a primary whose head is behind by more than the op that was under way renounces its copy (rule 5). It gives it a
    name that is in no row: so it is neither promoted nor asked any more, and joins again like any other copy, from its
    own head if the op log goes back so far. What it has is a part of the line, only not the end of it;
  * a primary that serves asks a member whose process is another one now for its head again (rule 6).
"""

from collections.abc import Iterator, Sequence
from enum import Enum

from protos.tally.internal.v1 import node_pb2
from shard.replica import follower
from shard.replica.joiner import Joiner
from shard.replica.silence import Witness
from shard.replica.term import Phase, Term
from shard.replica.wishes import ASK_AGAIN_S
from shard.replica.words import (
    Answer,
    Ask,
    Clone,
    Cloned,
    Confirm,
    Effects,
    Forward,
    Heads,
    Message,
    Op,
    Refuse,
    Renounce,
    Reply,
    RereadMap,
    Stored,
    Token,
    Verdict,
)
from tally.cluster.rows import Change
from tally.cluster.slot_map import SlotRow


class Role(Enum):
    """What a copy is at present, for status and tests."""

    ABSENT = "absent"
    JOINING = "joining"
    FOLLOWING = "following"
    WAITING = "waiting for a new term"
    STARTING = "starting a term"
    SERVING = "serving"


class Replica:
    """One copy. Every method takes an event and adds what is to be done to ``effects``.

    The driver does the writes of one call, flushes them, calls ``flushed``, and only then calls again (reads excepted):
    so whatever this copy knows to have written is durable when the next event comes. It calls ``tick`` only when no
    event waits. It shows rows that were read after this process
    began, and takes no call but Heads for a copy that it found on its disk before it has shown one.
    """

    def __init__(self, me: str, stored: Stored, *, calls: Iterator[int], incarnations: Iterator[str]) -> None:
        self.stored = stored
        self.row: SlotRow | None = None
        self.term: Term | None = None
        self._me = me
        self._calls = calls
        self._incarnations = incarnations
        # Terms begin in higher epochs only; None: a copy was found on the disk, and no row was read yet.
        self._began_in: int | None = None if stored.complete else 0
        self._wished = False
        self._joiner = Joiner(calls, incarnations)
        self._witness = Witness()
        self._ask_at = 0.0

    @property
    def role(self) -> Role:
        """What this copy is at present."""
        if self.term is not None:
            return Role.SERVING if self.term.phase is Phase.SERVING else Role.STARTING
        if self._named_primary():
            return Role.WAITING
        if self._joiner.calling:
            return Role.JOINING
        return Role.FOLLOWING if self.stored.complete else Role.ABSENT

    def _named_primary(self) -> bool:
        row = self.row
        return row is not None and row.primary == self._me and self._is_member(row)

    def _is_member(self, row: SlotRow) -> bool:
        return self.stored.complete and row.in_sync.get(self._me) == self.stored.incarnation

    def found(self, incarnation: str) -> None:
        """Note that an empty copy was made here, and flushed."""
        assert not self.stored.complete
        self.stored = Stored(incarnation, complete=True)
        self._witness.founded()

    def see_row(self, row: SlotRow, *, wished: bool, now: float, effects: Effects) -> None:
        """Take a row of the map, and whether this shard is wished to join."""
        if self._began_in is None:
            self._began_in = row.epoch
        if row.epoch < self.stored.epoch or (self.row is not None and row.epoch < self.row.epoch):
            return
        self._wished = wished
        if self.row is not None and row.epoch == self.row.epoch:
            return
        self._end_term(effects)
        self.row = row
        if self._is_member(row):
            self._joiner.stop()
        else:
            self._joiner.gap(now)  # A new term does not know its joiners yet.
        if self._named_primary() and row.epoch > max(self.stored.epoch, self._began_in):
            self.stored = follower.raise_epoch(self.stored, row.epoch, effects)
            self.term = Term(self._me, row, self._calls, self._witness, now)
        self._go_on(now, effects)

    def submit(self, tokens: Sequence[Token], now: float, effects: Effects) -> None:
        """Take sub-batches, in order."""
        if self.term is None:
            effects.now.append(Refuse(tuple(tokens), self._not_serving()))
        else:
            self.term.submit(tokens, effects)
            self._go_on(now, effects)

    def read(self, token: Token, now: float, effects: Effects) -> None:
        """Take a reader."""
        if self.term is None:
            effects.now.append(Refuse((token,), self._not_serving()))
        else:
            self.term.read(token, effects)
            self.term.confirm(now, effects)

    @property
    def reads_at_once(self) -> bool:
        """A reader would be told at once: it need not be shown to the rules at all."""
        return self.term is not None and self.term.is_alone

    def _not_serving(self) -> int:
        named = self.row is not None and self.row.primary == self._me
        return node_pb2.OUTCOME_NOT_READY if named else node_pb2.OUTCOME_NOT_OWNER

    def built(self, op: Op | None, now: float, effects: Effects) -> None:
        """Take the op that ``Build`` asked for."""
        assert self.term is not None
        self.stored = self.term.built(self.stored, op, now, effects)

    def receive(self, sender: str, call: int, message: Message, now: float, effects: Effects) -> None:
        """Take another copy's call."""
        if isinstance(message, Clone):
            if self.term is None:
                effects.now.append(Reply(sender, call, Cloned(granted=False)))
            else:
                self.term.clone(sender, call, message, effects)
                self._go_on(now, effects)
            return
        if self.row is not None and message.epoch < self.row.epoch:
            answer = Answer(Verdict.STALE, self.row.epoch, self.stored.incarnation, self.stored.head)
            effects.later.append(Reply(sender, call, answer))
            return
        self._close_clone_call_below(message.epoch)
        epoch, joining = self.stored.epoch, self._joiner.calling
        match message:
            case Forward():
                self.stored, verdict = follower.forward(self.stored, message, joining=joining, effects=effects)
                self._heard(verdict, now)
            case Heads():
                self.stored, verdict = follower.heads(self.stored, message, joining=joining, effects=effects)
            case Confirm():
                self.stored, verdict = follower.confirm(self.stored, message, joining=joining, effects=effects)
        if self.stored.epoch > epoch:
            self._end_term(effects)  # Of the older epoch (rule 2).
        effects.later.append(follower.reply(sender, call, self.stored, verdict))

    def _close_clone_call_below(self, epoch: int) -> None:
        """Close it if a higher epoch than it was opened in has come: perhaps this copy is a member by now (rule 9)."""
        if epoch > max(self.stored.epoch, self.row.epoch if self.row is not None else 0):
            self._joiner.stop()

    def _heard(self, verdict: Verdict, now: float) -> None:
        if verdict is Verdict.OK:
            self._joiner.heard(now)
        elif verdict is Verdict.DIVERGED:
            self._joiner.gap(now)

    def answered(self, shard: str, call: int, answer: Answer | Cloned, now: float, effects: Effects) -> None:
        """Take the answer to a call of this copy."""
        if isinstance(answer, Cloned):
            stored, self.stored = self.stored, self._joiner.answered(call, answer, self.stored, now, effects)
            if self.stored is not stored:
                self._witness.with_flush()
        elif self.term is not None:
            self.term.answered(shard, call, answer, now)
        self._go_on(now, effects)

    def restarted(self, shard: str, now: float, effects: Effects) -> None:
        """Note that another process than before answers for a shard."""
        if self.term is not None:
            self.term.prove(shard, now)
            self._go_on(now, effects)

    @property
    def restless(self) -> bool:
        """Time alone may change something: ``tick`` is to be called now and then."""
        if self.term is not None:
            return not self.term.quiet
        return self._wished or self._named_primary()

    @property
    def joining_call(self) -> int:
        """The Clone call of this copy that is open; 0: none."""
        return self._joiner.call

    def progress(self, call: int, now: float) -> None:
        """Note that a part of the answer to a Clone call came."""
        self._joiner.progress(call, now)

    def failed(self, shard: str, call: int, now: float, effects: Effects, *, refused: bool) -> None:
        """Accept that a call of this copy has no answer; ``refused``: its machine refuses connections."""
        self._joiner.failed(call, now)
        if self.term is not None:
            self.term.failed(shard, call, now, refused=refused)
        self._go_on(now, effects)

    def switch_to(self, shard: str, now: float, effects: Effects) -> None:
        """Hand the slot over to another member, if this copy serves."""
        if self.term is not None:
            self.term.switch_to(shard, now)
            self._go_on(now, effects)

    def tick(self, now: float, effects: Effects) -> None:
        """Look: do what is due. All that has arrived was heard, and nothing that was written is under way."""
        if self.term is not None:
            self.term.look(self.stored, now, effects)
        self._go_on(now, effects)

    def flushed(self, now: float) -> None:
        """Note that what the last step wrote is durable; to be called before anything that follows from it is done."""
        self._witness.flushed()
        if self.term is not None:
            self.term.flushed(now)

    def _go_on(self, now: float, effects: Effects) -> None:
        if self.term is not None:
            self.stored = self.term.advance(self.stored, now, effects)
            if self.term.surpassed_by is not None:
                self._renounce(self.term.row.epoch, *self.term.surpassed_by, effects)
            elif self.term.deposed:
                self._end_term(effects)
        elif self._named_primary() and now >= self._ask_at:
            assert self.row is not None
            self._ask_at = now + ASK_AGAIN_S
            effects.now.append(Ask(Change.TERM, self.row.epoch, self._me, self.stored.incarnation))
        elif self._joins():
            assert self.row is not None
            self._joiner.next_call(self.row.primary, self.stored, now, effects)

    def _joins(self) -> bool:
        """Tell whether this copy is to call; not while it knows of a newer row: perhaps that names it (rule 9)."""
        row = self.row
        return (
            self._wished
            and row is not None
            and row.primary != self._me
            and row.epoch >= self.stored.epoch
            and not self._is_member(row)
        )

    def _renounce(self, epoch: int, shard: str, incarnation: str, effects: Effects) -> None:
        """Be this member no more, and let who has everything be primary; else the controller sees what is missing."""
        self._end_term(effects)
        self.stored = self.stored._replace(incarnation=next(self._incarnations))
        effects.writes.append(Renounce(self.stored.incarnation))
        effects.later.append(Ask(Change.PROMOTE, epoch, shard, incarnation))

    def _end_term(self, effects: Effects) -> None:
        if self.term is not None:
            self.term.end(effects)
            self.term = None
            effects.now.append(RereadMap())
