"""What a primary does in one epoch: learn the heads, confirm the last op, then serve. Rules 4 to 8, 10, 12 and 15.

| phase | event | next |
|---|---|---|
| COLLECTING | the head of every other member is known | CONFIRMING, after adopting the highest that follows mine |
| COLLECTING | some head is above mine and does not follow it | over: I lost something, and renounce my copy |
| COLLECTING, CONFIRMING | a member has no copy, is silent, or does not fit | the same; its removal is asked for |
| CONFIRMING | every required copy acknowledged the head in this epoch | SERVING |
| any | a higher epoch, from a message or the map | over |

Before SERVING there is no write, no read, no "duplicate", no clone and no add. What is required only grows in a term.

As long as disks keep what was flushed, the heads of one row's members are in one line and differ by one op at most: an
op is built when all of them have the one before. So a member whose head is above mine and does not follow it has what I
had once and lost: my log lost its tail, or somebody put an older state of my directory back.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.replica.follower import apply
from shard.replica.peer import Peer, Round
from shard.replica.words import (
    Answer,
    Ask,
    Build,
    Clone,
    Cloned,
    Commit,
    Confirm,
    Effects,
    Forward,
    Grant,
    Heads,
    Op,
    Refuse,
    Reply,
    Send,
    Stored,
    Tell,
    Token,
    Verdict,
)
from tally.cluster.op_name import OpName
from tally.cluster.rows import Change
from tally.cluster.slot_map import SlotRow

RESEND_S: Final = 0.2
SILENT_S: Final = 2.0  # Without an acknowledgement for so long: its removal is asked for.
REFUSED_S: Final = 0.5  # The same, when its machine refuses connections.
ASK_AGAIN_S: Final = 0.5
WAIT_MAX_S: Final = 3.0  # Behind an op, or for a round, that does not come to its end; a removal for silence is sooner.
HOLD_S: Final = 1.0  # How long a planned switch may hold the queue.
JOINER_MAX_S: Final = 6.0  # A joiner that acknowledges nothing for so long is forgotten.
BEHIND_MAX: Final = 256  # A joiner that is so many ops behind is forgotten; it calls again.
PACE_ACKS: Final = 2  # For each new op a joiner that keeps up acknowledges so many, or under load it never got level.
PACE_OP_S: Final = 0.2  # So long at most an op waits for that,
PACE_S: Final = 4.0  # and so long in all for one attempt of a joiner.


class Phase(Enum):
    """How far a term is."""

    COLLECTING = auto()
    CONFIRMING = auto()
    SERVING = auto()


class Term:
    """One primary's work in one epoch."""

    def __init__(self, me: str, row: SlotRow, calls: Iterator[int], now: float) -> None:
        self.row: Final = row
        self.phase = Phase.COLLECTING
        self.deposed = False
        self.surpassed_by: tuple[str, str] | None = None  # The member, and incarnation, that has what I lost.
        self._me = me
        self._calls = calls
        self._members = {shard: Peer(inc, now) for shard, inc in row.in_sync.items() if shard != me}
        self._joiners: dict[str, Peer] = {}
        self._asked: dict[str, Peer] = {}  # Joiners that are required since their add was asked for (rule 8).
        self._clones: dict[str, tuple[int, Clone]] = {}  # To be answered between two ops.
        self._queue: deque[Token] = deque()
        self._under_way: Op | None = None
        self._built_at = now
        self._readers: list[Token] = []
        self._round: Round | None = None
        self._round_at = 0.0  # Not before: the last one failed.
        self._unconfirmed_since: float | None = None  # So long some reader waits, and no round has come to its end.
        self._changes: dict[str, tuple[Change, str]] = {}  # Shard -> what is asked of the controller.
        self._silent: set[str] = set()  # Of these, those about whom it is asked only because they are silent.
        self._ask_at = 0.0
        self._switch: tuple[str, float] | None = None  # To whom, and until when the queue is held.

    @property
    def quiet(self) -> bool:
        """It serves, and time alone changes nothing."""
        return self.phase is Phase.SERVING and not (
            self._queue
            or self._readers
            or self._round
            or self._under_way
            or self._joiners
            or self._asked
            or self._changes
            or self._switch
            or self._clones
            or any(self._lacks(peer) for peer in self._members.values())
        )

    @property
    def is_alone(self) -> bool:
        """It serves, and no other copy has a say in what is committed: no round has to confirm anything."""
        return self.phase is Phase.SERVING and not (self.deposed or self._members or self._asked)

    @property
    def keeps_ops(self) -> bool:
        """Others need the ops of this term, now or when they catch up."""
        return bool(self._members or self._joiners or self._asked)

    # What comes in.

    def submit(self, tokens: Sequence[Token], effects: Effects) -> None:
        """Take sub-batches; they are answered when their op is committed, or when the term ends."""
        if self.phase is Phase.SERVING and len(self.row.in_sync) >= self.row.min_copies:
            self._queue.extend(tokens)
        else:
            effects.now.append(Refuse(tuple(tokens), node_pb2.OUTCOME_NOT_READY))

    def read(self, token: Token, effects: Effects) -> None:
        """Take a reader; a confirm round that begins after it arrived must succeed first."""
        if self.phase is Phase.SERVING:
            self._readers.append(token)
        else:
            effects.now.append(Refuse((token,), node_pb2.OUTCOME_NOT_READY))

    def clone(self, shard: str, call: int, message: Clone, effects: Effects) -> None:
        """Take a joiner's call; its newest call replaces earlier ones."""
        if self.phase is not Phase.SERVING or shard in self._required():
            effects.later.append(Reply(shard, call, Cloned(granted=False)))
            return
        self._joiners.pop(shard, None)  # Earlier attempts are forgotten at once, not when this one is granted.
        self._clones[shard] = (call, message)

    def switch_to(self, shard: str, now: float) -> None:
        """Hand the slot over to a member between two ops; its queue is held for ``HOLD_S`` at most."""
        if self.phase is Phase.SERVING and shard in self._members and self._switch is None:
            self._switch = (shard, now + HOLD_S)

    def answered(self, shard: str, call: int, answer: Answer, now: float) -> None:
        """Take the answer to a call of this term."""
        if answer.verdict is Verdict.STALE:
            # An answer to a call of an earlier term may name an epoch that is over, too.
            self.deposed = self.deposed or answer.epoch > self.row.epoch
            return
        if self._round is not None and call in self._round.calls:
            self._confirmed(shard, call, answer)
            return
        peer = self._peer(shard)
        if peer is None or peer.call != call:
            return
        sent, peer.call, peer.refused = peer.unanswered, 0, False
        if answer.verdict is Verdict.OK:
            peer.since = peer.resend_at = now
            peer.acks += 1
            if peer.paced_until is None:
                peer.paced_until = now + PACE_S
            self._acknowledged(shard, peer, answer, sent, now)
        elif shard in self._joiners and shard not in self._asked:
            if answer.verdict is Verdict.DIVERGED:
                del self._joiners[shard]  # It calls again.
            peer.resend_at = now + peer.pause_s  # Its copy is under way.
            peer.pause_s = min(RESEND_S, 2 * peer.pause_s)
        else:
            # NO_COPY or DIVERGED of a copy that is required: it is none.
            self._change(shard, peer)
            peer.resend_at = now + RESEND_S

    def _acknowledged(self, shard: str, peer: Peer, answer: Answer, sent: OpName | None, now: float) -> None:
        if self.phase is not Phase.COLLECTING:
            peer.acked = sent
            if peer.behind and peer.behind[0].name == sent:
                peer.behind.popleft()
        elif answer.incarnation == peer.incarnation:
            peer.heads = answer.head
        else:
            # Another copy than the row's: its head does not count.
            self._change(shard, peer)
            peer.resend_at = now + RESEND_S

    def _confirmed(self, shard: str, call: int, answer: Answer) -> None:
        assert self._round is not None
        peer = self._peer(shard)
        assert peer is not None
        if answer.verdict is Verdict.OK:
            peer.round_failed_at = None
            del self._round.calls[call]
        else:
            self._change(shard, peer)  # The round stays open: only a new term settles it.

    def prove(self, shard: str, now: float) -> None:
        """Ask a member again for what it acknowledged: another process answers for it now, perhaps from an older disk.

        A joiner need not be asked: its addition begins a new term.
        """
        peer = self._members.get(shard)
        if peer is not None:
            peer.call = 0  # An answer that is still under way is of the process before.
            peer.heads = peer.acked = None
            peer.since = peer.resend_at = now

    def failed(self, shard: str, call: int, now: float, *, refused: bool) -> None:
        """Accept that a call of this term has no answer."""
        if self._round is not None and self._round.calls.pop(call, None) is not None:
            # Begin it again, for the same readers and for those who came since.
            self._readers = self._round.tokens + self._readers
            self._round = None
            self._round_at = now + RESEND_S
            self._round_failed(shard, now, refused=refused)
        peer = self._peer(shard)
        if peer is not None and peer.call == call:
            peer.call, peer.refused = 0, refused
            peer.resend_at = now + RESEND_S

    def _round_failed(self, shard: str, now: float, *, refused: bool) -> None:
        peer = self._peer(shard)
        if peer is not None:
            peer.refused = refused
            if peer.round_failed_at is None:
                peer.round_failed_at = now

    # What is to be done.

    def advance(self, stored: Stored, now: float, effects: Effects) -> Stored:
        """Do all that can be done now; to be called after every event, and now and then."""
        if self.deposed:
            return stored
        if self.phase is Phase.COLLECTING:
            stored = self._collect(stored, now, effects)
            if self.surpassed_by is not None:
                return stored
        if self.phase is Phase.CONFIRMING:
            self._forward(stored, now, effects)
            if self._all_have(stored.head.name):
                self.phase = Phase.SERVING
        if self.phase is Phase.SERVING:
            self._serve(stored, now, effects)
        self._look_after(now, effects)
        return stored

    def _collect(self, stored: Stored, now: float, effects: Effects) -> Stored:
        for shard, peer in self._members.items():
            if peer.heads is None:
                self._call(shard, peer, Heads(self.row.epoch), now, effects)
        told = [(peer.heads, shard) for shard, peer in self._members.items() if peer.heads is not None]
        head, shard = max(told, key=lambda entry: _order(entry[0].name), default=(stored.head, self._me))
        behind = _order(head.name) > _order(stored.head.name)
        if behind and (head.previous != stored.head.name or head.body is None):
            # One answer is enough: to wait for all would be to ask for the removal of who is silent, and in its turn
            # perhaps of this one, who has what I lost.
            self.surpassed_by = shard, self._members[shard].incarnation
            return stored
        if len(told) < len(self._members):
            return stored
        if behind:
            stored = apply(stored, head, effects)
        for peer in self._members.values():
            peer.resend_at = now
        self.phase = Phase.CONFIRMING
        return stored

    def _serve(self, stored: Stored, now: float, effects: Effects) -> None:
        if self._under_way is not None and self._all_have(self._under_way.name):
            self._under_way = None
            effects.now.append(Commit())  # It is flushed here since the step that built it.
        if self._under_way is None:
            self._between_ops(stored, now, effects)
        elif self._queue and now - self._built_at > WAIT_MAX_S:
            # They come again. Else each attempt would wait beside the one before it, and fill what all slots share.
            effects.now.append(Refuse(tuple(self._queue), node_pb2.OUTCOME_NOT_READY))
            self._queue.clear()
        self._forward(stored, now, effects)
        self._confirm_round(now, effects)
        self._refuse_readers(now, effects)

    def _between_ops(self, stored: Stored, now: float, effects: Effects) -> None:
        for shard, (call, message) in self._clones.items():
            self._joiners[shard] = peer = Peer(message.incarnation, now)
            peer.behind.append(stored.head)
            effects.now.append(Grant(shard, call, self.row.epoch, stored.head, message.head))
        self._clones.clear()
        for shard, peer in self._joiners.items():
            if peer.acked == stored.head.name and shard not in self._asked:
                # Required from before the request is sent (rules 8 and 10).
                self._asked[shard] = peer
                self._changes[shard] = (Change.ADD, peer.incarnation)
                self._ask_at = now
        if self._switch is not None:
            shard, until = self._switch
            if now < until:
                self._changes[shard] = (Change.PROMOTE, self._members[shard].incarnation)
                return
            self._changes.pop(shard, None)
            self._switch = None
        if self._queue and not self._waits_for_joiner(now):
            effects.now.append(Build(tuple(self._queue), self.row.epoch, stored.head.name))
            self._queue.clear()

    def _waits_for_joiner(self, now: float) -> bool:
        """Tell whether the queue waits a little so that a joiner gets nearer."""
        if now >= self._built_at + PACE_OP_S:
            return False
        return any(
            peer.behind and peer.acks < PACE_ACKS and peer.paced_until is not None and now < peer.paced_until
            for shard, peer in self._joiners.items()
            if shard not in self._asked
        )

    def built(self, stored: Stored, op: Op | None, now: float, effects: Effects) -> Stored:
        """Take the op that was asked for with ``Build``; None if its sub-batches change nothing."""
        assert self.phase is Phase.SERVING
        assert self._under_way is None
        if op is None:
            effects.later.append(Commit())
            return stored
        assert op.previous == stored.head.name
        self._under_way, self._built_at = op, now
        stored = apply(stored, op, effects)
        for peer in self._required().values():
            peer.since = now  # Nothing was expected of it before.
        for shard, peer in list(self._joiners.items()):
            peer.behind.append(op)
            peer.acks = 0
            if len(peer.behind) > BEHIND_MAX:
                del self._joiners[shard]  # It calls again, and gets them at once.
        self._forward(stored, now, effects)
        if not self._required():
            self._under_way = None
            effects.later.append(Commit())
        return stored

    def _forward(self, stored: Stored, now: float, effects: Effects) -> None:
        head = stored.head
        for shard, peer in self._members.items():
            if peer.acked != head.name:
                self._call(shard, peer, Forward(self.row.epoch, peer.incarnation, head), now, effects)
        for shard, peer in self._joiners.items():
            if peer.behind:
                self._call(shard, peer, Forward(self.row.epoch, peer.incarnation, peer.behind[0]), now, effects)

    def _confirm_round(self, now: float, effects: Effects) -> None:
        if self._round is not None and not self._round.calls:
            effects.later.append(Tell(tuple(self._round.tokens)))
            self._round = self._unconfirmed_since = None
        if self._round is None and self._readers and now >= self._round_at:
            self._round = Round(self._readers)
            self._readers = []
            for shard, peer in self._required().items():
                call = next(self._calls)
                self._round.calls[call] = shard
                effects.now.append(Send(shard, call, Confirm(self.row.epoch, peer.incarnation)))
            if not self._round.calls:
                effects.later.append(Tell(tuple(self._round.tokens)))
                self._round = None

    def _refuse_readers(self, now: float, effects: Effects) -> None:
        """Refuse all who wait for a round, if none has come to its end for too long; as with the queue."""
        waiting = [*(self._round.tokens if self._round is not None else ()), *self._readers]
        if not waiting:
            self._unconfirmed_since = None
        elif self._unconfirmed_since is None:
            self._unconfirmed_since = now
        elif now - self._unconfirmed_since > WAIT_MAX_S:
            effects.now.append(Refuse(tuple(waiting), node_pb2.OUTCOME_NOT_READY))
            self._readers = []
            self._round = self._unconfirmed_since = None

    def _call(self, shard: str, peer: Peer, message: Heads | Forward, now: float, effects: Effects) -> None:
        if peer.call or now < peer.resend_at:
            return
        peer.call, peer.unanswered = next(self._calls), message.op.name if isinstance(message, Forward) else None
        # Rule 2: the epoch is flushed before anything is asked under it. An op may travel while it is flushed here.
        when = effects.later if isinstance(message, Heads) else effects.now
        when.append(Send(shard, peer.call, message))

    def _look_after(self, now: float, effects: Effects) -> None:
        """Ask for the removal of who is silent, forget joiners that are, and repeat what was asked for."""
        for shard, peer in self._required().items():
            if self._is_silent(peer, now):
                self._change(shard, peer, silent=True)
            elif shard in self._silent:
                # It is well again: the request may have waited for a way to the controller, and would reach it now.
                self._silent.discard(shard)
                if shard in self._asked:
                    self._changes[shard] = (Change.ADD, peer.incarnation)
                elif self._changes.get(shard) == (Change.REMOVE, peer.incarnation):
                    del self._changes[shard]
        for shard, peer in list(self._joiners.items()):
            if shard not in self._asked and now - peer.since > JOINER_MAX_S and self._lacks(peer):
                del self._joiners[shard]
        if self._changes and now >= self._ask_at:
            self._ask_at = now + ASK_AGAIN_S
            for shard, (change, incarnation) in self._changes.items():
                effects.later.append(Ask(change, self.row.epoch, shard, incarnation))

    def _is_silent(self, peer: Peer, now: float) -> bool:
        waits = self._lacks(peer)
        if peer.call == 0 and now >= peer.resend_at and not waits:
            peer.since = now  # Nothing is expected of it.
        reads_fail = peer.round_failed_at is not None and now - peer.round_failed_at > REFUSED_S
        if reads_fail and (self._readers or self._round is not None):
            return True  # Readers wait for it in vain; a call has taken its time already.
        return waits and now - peer.since > (REFUSED_S if peer.refused else SILENT_S)

    def _lacks(self, peer: Peer) -> bool:
        if self.phase is Phase.COLLECTING:
            return peer.heads is None
        return peer.acked is None or (self._under_way is not None and peer.acked != self._under_way.name)

    def _change(self, shard: str, peer: Peer, *, silent: bool = False) -> None:
        """Ask for a row without this copy; for one that is only asked for, a new term is such a row (rule 8).

        Args:
            shard: Whose copy it is.
            peer: The copy.
            silent: Only as long as it is; otherwise what it said is reason enough.
        """
        asked = Change.REMOVE if shard in self._members else Change.TERM, peer.incarnation
        if not silent:
            self._silent.discard(shard)
        elif self._changes.get(shard) != asked:
            self._silent.add(shard)
        self._changes[shard] = asked

    def _required(self) -> dict[str, Peer]:
        return {**self._members, **self._asked}

    def _peer(self, shard: str) -> Peer | None:
        return self._members.get(shard) or self._asked.get(shard) or self._joiners.get(shard)

    def _all_have(self, name: OpName) -> bool:
        return all(peer.acked == name for peer in self._required().values())

    def end(self, effects: Effects) -> None:
        """End the term: what is in doubt is neither confirmed nor failed (rule 14)."""
        tokens = [*self._queue, *self._readers, *(self._round.tokens if self._round else ())]
        if tokens:
            effects.now.append(Refuse(tuple(tokens), node_pb2.OUTCOME_NOT_READY))
        for shard, (call, _) in self._clones.items():
            effects.later.append(Reply(shard, call, Cloned(granted=False)))


def _order(name: OpName) -> tuple[int, int]:
    return name.epoch, name.opnum
