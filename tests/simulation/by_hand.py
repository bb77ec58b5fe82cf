"""One copy on the real core, fed by hand: what it writes is durable when the test says so."""

from collections.abc import Callable
from itertools import count
from typing import Any, Final, TypeVar

from shard.replica.replica import Replica, Role
from shard.replica.words import (
    Act,
    Answer,
    Apply,
    Ask,
    Build,
    Cloned,
    Commit,
    Effects,
    Message,
    Op,
    Reply,
    Send,
    Stored,
    Write,
)
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.rows import Change
from tally.cluster.slot_map import SlotRow

A = TypeVar("A")
LOOK_S: Final = 0.25
_calls = count(1)


def op(epoch: int, opnum: int, body: str, previous: OpName = NOTHING) -> Op:
    """Return an op whose digest chains, as letters."""
    return Op(OpName(epoch, opnum, previous.digest + body.encode()), previous, body)


def row(epoch: int, primary: str, min_copies: int = 1, **in_sync: str) -> SlotRow:
    """Return a row: ``row(1, "P", P="p1", B="b1")``."""
    return SlotRow(epoch, primary, in_sync, min_copies)


def complete(incarnation: str, epoch: int = 0, head: Op | None = None) -> Stored:
    """Return what a complete copy has stored."""
    return Stored(incarnation, complete=True, epoch=epoch, head=head or Op())


class ByHand:
    """One shard's copy of one slot. Whatever it asks for is kept in ``acts``, in order, until it is taken."""

    def __init__(self, name: str, stored: Stored | None = None) -> None:
        self.name = name
        self.durable = stored or Stored()
        self.now = 100.0
        self.acts: list[Act] = []
        self.writes: list[Write] = []
        self._later: list[Act] = []
        self._unflushed = False
        self._names = (f"{name.lower()}{number}" for number in count(2))
        self.replica = self._start()
        self.replica._began_in = 0  # It runs since long ago.

    def _start(self) -> Replica:
        return Replica(self.name, self.durable, calls=_calls, incarnations=self._names)

    def crash(self, found: Stored | None = None) -> None:
        """Restart with what was flushed, or with what is on the disk now; nothing else that was asked for happens."""
        self.durable = found or self.durable
        self.acts, self._later, self.writes, self._unflushed = [], [], [], False
        self.replica = self._start()

    def do(self, step: Callable[..., None], *args: Any, flush: bool = True, **named: Any) -> None:
        """Let one event happen, and flush."""
        effects = Effects()
        step(*args, now=self.now, effects=effects, **named)
        for act in effects.now:
            if isinstance(act, Build):
                body = "".join(act.tokens)
                built = op(act.epoch, act.previous.opnum + 1, body, act.previous)
                self.replica.built(built, self.now, effects)
            self.acts.append(act)
        self.writes.extend(effects.writes)
        self._unflushed = self._unflushed or bool(effects.writes)
        self._later.extend(effects.later)
        if flush:
            self.flush()

    def flush(self) -> None:
        """End the flush of all that was written."""
        self.durable = self.replica.stored
        if self._unflushed:
            self._unflushed = False
            self.replica.flushed(self.now)
        self.acts.extend(self._later)
        self._later = []

    def take(self, kind: type[A]) -> list[A]:
        """Return, and forget, all acts of a kind."""
        taken: list[A] = [act for act in self.acts if isinstance(act, kind)]
        self.acts = [act for act in self.acts if not isinstance(act, kind)]
        return taken

    def see(self, new: SlotRow, *, wished: bool = False) -> None:
        """Read a row of the map."""
        self.do(self.replica.see_row, new, wished=wished)

    def submit(self, token: str) -> None:
        """Take a sub-batch."""
        self.do(self.replica.submit, (token,))

    def tick(self, seconds: float = 0.3) -> None:
        """Let time pass, and look often enough that all of it counts."""
        while seconds > LOOK_S:
            self.now += LOOK_S
            seconds -= LOOK_S
            self.do(self.replica.tick)
        self.now += seconds
        self.do(self.replica.tick)

    def calls(self, to: str, kind: type[A]) -> list[tuple[int, A]]:
        """Return, and forget, the calls of this kind to a shard."""
        taken = [act for act in self.acts if isinstance(act, Send) and act.to == to and isinstance(act.message, kind)]
        self.acts = [act for act in self.acts if act not in taken]
        return [(act.call, act.message) for act in taken if isinstance(act.message, kind)]

    def hear(self, sender: str, message: Message, call: int = 0) -> Answer | Cloned:
        """Take a call and return the answer, which comes after a flush."""
        self.do(self.replica.receive, sender, call or next(_calls), message)
        return self.take(Reply)[-1].answer

    def hear_answer(self, shard: str, call: int, answer: Answer | Cloned) -> None:
        """Take an answer."""
        self.do(self.replica.answered, shard, call, answer)

    def asked(self, change: Change) -> list[Ask]:
        """Return, and forget, what was asked of the controller."""
        return [ask for ask in self.take(Ask) if ask.change is change]

    def serves(self) -> bool:
        """It serves reads and writes."""
        return self.replica.role is Role.SERVING

    @property
    def committed(self) -> bool:
        """The last op was committed since this was asked last."""
        return bool(self.take(Commit))

    @property
    def applied(self) -> list[Op]:
        """All ops that were written, in order."""
        return [write.op for write in self.writes if isinstance(write, Apply)]


def talk(one: ByHand, *others: ByHand, kind: type[Any] = object) -> None:
    """Carry calls of ``one`` to others, and the answers back, until there are no more."""
    by_name = {other.name: other for other in others}
    while True:
        open_calls = [act for act in one.take(Send) if act.to in by_name and isinstance(act.message, kind)]
        if not open_calls:
            return
        for send in open_calls:
            one.hear_answer(send.to, send.call, by_name[send.to].hear(one.name, send.message, send.call))
