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
from shard.replica.peer import Peer
from shard.replica.rounds import WAIT_MAX_S, Rounds
from shard.replica.silence import Looks, Witness
from shard.replica.wishes import Wishes
from shard.replica.words import (
    Ahead,
    Answer,
    Build,
    Clone,
    Cloned,
    Commit,
    Effects,
    Forward,
    Grant,
    Heads,
    Op,
    Refuse,
    Reply,
    Send,
    Stored,
    Token,
    Verdict,
)
from tally.cluster.op_name import OpName
from tally.cluster.rows import Change
from tally.cluster.slot_map import SlotRow

RESEND_S: Final = 0.2
SILENT_S: Final = 2.0  # Without an acknowledgement for so long: its removal is asked for.
REFUSED_S: Final = 0.5  # The same, when its machine refuses connections: no silence, so it needs a witness;
AWAY_S: Final = 6.0  # without one it may just be starting, and have what this copy lost.
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

    def __init__(self, me: str, row: SlotRow, calls: Iterator[int], witness: Witness, now: float) -> None:
        self.row: Final = row
        self.phase = Phase.COLLECTING
        self.deposed = False
        self.surpassed_by: tuple[str, str] | None = None  # The member, and incarnation, that has what I lost.
        self._me = me
        self._calls = calls
        self._witness = witness
        self._looks = Looks(now)
        self._flushed = False  # The epoch is: nothing is asked of the controller before (rule 2).
        self._members = {shard: Peer(inc, now, 0.0) for shard, inc in row.in_sync.items() if shard != me}
        self._joiners: dict[str, Peer] = {}
        self._asked: dict[str, Peer] = {}  # Joiners that are required since their add was asked for (rule 8).
        self._clones: dict[str, tuple[int, Clone]] = {}  # To be answered between two ops.
        self._queue: deque[Token] = deque()
        self._under_way: Op | None = None
        self._built_at = now
        self._ahead: set[tuple[str, OpName]] = set()  # Joiners of which an operator was told.
        self.wishes: Final = Wishes(row.epoch)
        self._rounds = Rounds(row.epoch, calls)
        self._switch: tuple[str, float] | None = None  # To whom, and until when the queue is held.

    @property
    def quiet(self) -> bool:
        """It serves, and time alone changes nothing."""
        return self.phase is Phase.SERVING and not (
            self._queue
            or self._rounds
            or self._under_way
            or self._joiners
            or self._asked
            or self.wishes
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
            self._rounds.add(token)
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
        if self._rounds.asks(call):
            self._confirmed(shard, call, answer)
            return
        peer = self._peer(shard)
        if peer is None or peer.call != call:
            return
        sent, peer.call, peer.refused, peer.since = peer.unanswered, 0, False, None
        if answer.verdict is Verdict.OK:
            peer.resend_at, peer.heard = now, self._looks.at(now)
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
            self._has_none(shard, peer)
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
            self._has_none(shard, peer)
            peer.resend_at = now + RESEND_S

    def _confirmed(self, shard: str, call: int, answer: Answer) -> None:
        peer = self._peer(shard)
        assert peer is not None
        if answer.verdict is Verdict.OK:
            peer.round_since, peer.refused = None, False
            self._rounds.confirmed(call)
        else:
            self._has_none(shard, peer)  # The round stays open: only a new term settles it.

    def prove(self, shard: str, now: float) -> None:
        """Ask a member again for what it acknowledged: another process answers for it now, perhaps from an older disk.

        A joiner need not be asked: its addition begins a new term.
        """
        peer = self._members.get(shard)
        if peer is not None:
            peer.call = 0  # An answer that is still under way is of the process before.
            peer.heads = peer.acked = peer.since = None
            peer.resend_at = now

    def failed(self, shard: str, call: int, now: float, *, refused: bool) -> None:
        """Accept that a call of this term has no answer."""
        if self._rounds.asks(call):
            self._rounds.failed(now)
            if (peer := self._peer(shard)) is not None:
                peer.refused = refused
        peer = self._peer(shard)
        if peer is not None and peer.call == call:
            peer.call, peer.refused = 0, refused
            peer.resend_at = now + RESEND_S

    def flushed(self, now: float) -> None:
        """Note that what this copy wrote is durable; what was asked meanwhile left only now, or waits to be heard."""
        self._flushed = True
        for peer in (*self._members.values(), *self._joiners.values()):
            peer.flushed(self._looks.at(now))

    # What is to be done.

    def look(self, stored: Stored, now: float, effects: Effects) -> None:
        """Judge who is silent, and ask for what follows from it; all that has arrived was heard."""
        if not self._looks.look(now):
            return
        for shard, peer in self._required().items():
            if self._is_silent(peer):
                self.wishes.want_while_silent(shard, self._without(shard), peer.incarnation)
            elif shard in self.wishes.silent:
                # It is well again: the request may have waited for a way to the controller, and would reach it now.
                self.wishes.drop(shard)
                if shard in self._asked:
                    self.wishes.want(shard, Change.ADD, peer.incarnation)
        if self._flushed:
            self.wishes.ask_about_silent(now, None if self._witness.there else stored.head.name, effects)
        for shard, peer in list(self._joiners.items()):
            if shard not in self._asked and self._looks.s - peer.heard > JOINER_MAX_S and self._lacks(peer):
                del self._joiners[shard]

    def _is_silent(self, peer: Peer) -> bool:
        if not peer.refused:
            return peer.waited(self._looks.s) > SILENT_S
        return peer.waited(self._looks.s) > (REFUSED_S if self._witness.there else AWAY_S)

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
        if self._flushed:
            self.wishes.ask(now, effects)
        return stored

    def _collect(self, stored: Stored, now: float, effects: Effects) -> Stored:
        for shard, peer in self._members.items():
            if peer.heads is None:
                self._call(shard, peer, Heads(self.row.epoch), now, effects)
        told = [(peer.heads, shard) for shard, peer in self._members.items() if peer.heads is not None]
        for head, _ in told:
            self._witness.answered(stored.head, head.name)
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
            self._witness.with_flush()
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
        self._confirm_readers(now, effects)

    def _between_ops(self, stored: Stored, now: float, effects: Effects) -> None:
        self._answer_clones(stored, now, effects)
        for shard, peer in self._joiners.items():
            if peer.acked == stored.head.name and shard not in self._asked:
                # Required from before the request is sent (rules 8 and 10).
                self._asked[shard] = peer
                self.wishes.want_at_once(shard, Change.ADD, peer.incarnation, now)
        if self._switch is not None:
            shard, until = self._switch
            if now < until:
                self.wishes.want(shard, Change.PROMOTE, self._members[shard].incarnation)
                return
            self.wishes.drop(shard)
            self._switch = None
        if self._queue and not self._waits_for_joiner(now):
            effects.now.append(Build(tuple(self._queue), self.row.epoch, stored.head.name))
            self._queue.clear()

    def _answer_clones(self, stored: Stored, now: float, effects: Effects) -> None:
        mine = stored.head.name
        for shard, (call, message) in self._clones.items():
            its = message.head
            if its is not None and its.opnum > mine.opnum + 1 and its.epoch >= self.row.gave_up:
                # No copy is ahead by more than the op that was under way, unless this one lost something (rule 9).
                effects.later.append(Reply(shard, call, Cloned(granted=False)))
                if (shard, its) not in self._ahead:
                    self._ahead.add((shard, its))
                    effects.later.append(Ahead(shard, its, mine))
                continue
            self._joiners[shard] = peer = Peer(message.incarnation, now, self._looks.at(now))
            peer.behind.append(stored.head)
            effects.now.append(Grant(shard, call, self.row.epoch, stored.head, its))
        self._clones.clear()

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

    def confirm(self, now: float, effects: Effects) -> None:
        """Begin a round of Confirm for those who wait, or answer them after one; all that a reader may set off.

        Readers come while a flush is under way, and answers to be heard wait for its end.
        """
        if self.phase is Phase.SERVING and not self.deposed:
            self._confirm_readers(now, effects)

    def _confirm_readers(self, now: float, effects: Effects) -> None:
        self._rounds.go_on(self._required(), now, self._looks.at(now), effects)

    def _call(self, shard: str, peer: Peer, message: Heads | Forward, now: float, effects: Effects) -> None:
        if peer.call or now < peer.resend_at:
            return
        peer.call, peer.unanswered = next(self._calls), message.op.name if isinstance(message, Forward) else None
        peer.since = self._looks.at(now) if peer.since is None else peer.since
        # Rule 2: the epoch is flushed before anything is asked under it. An op may travel while it is flushed here.
        when = effects.later if isinstance(message, Heads) else effects.now
        when.append(Send(shard, peer.call, message))

    def _lacks(self, peer: Peer) -> bool:
        if self.phase is Phase.COLLECTING:
            return peer.heads is None
        return peer.acked is None or (self._under_way is not None and peer.acked != self._under_way.name)

    def _without(self, shard: str) -> Change:
        """Return what makes a row without this copy; for one that is only asked for a new term does (rule 8)."""
        return Change.REMOVE if shard in self._members else Change.TERM

    def _has_none(self, shard: str, peer: Peer) -> None:
        """Ask for a row without this copy, which is none, by what its shard said."""
        self.wishes.want(shard, self._without(shard), peer.incarnation)

    def _required(self) -> dict[str, Peer]:
        return {**self._members, **self._asked}

    def _peer(self, shard: str) -> Peer | None:
        return self._members.get(shard) or self._asked.get(shard) or self._joiners.get(shard)

    def _all_have(self, name: OpName) -> bool:
        return all(peer.acked == name for peer in self._required().values())

    def end(self, effects: Effects) -> None:
        """End the term: what is in doubt is neither confirmed nor failed (rule 14)."""
        tokens = [*self._queue, *self._rounds.tokens]
        if tokens:
            effects.now.append(Refuse(tuple(tokens), node_pb2.OUTCOME_NOT_READY))
        for shard, (call, _) in self._clones.items():
            effects.later.append(Reply(shard, call, Cloned(granted=False)))


def _order(name: OpName) -> tuple[int, int]:
    return name.epoch, name.opnum
