"""How a primary confirms that it still is one before it answers readers: rounds of Confirm (rule 12). Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.replica.peer import Peer
from shard.replica.words import Confirm, Effects, Refuse, Send, Tell, Token

AGAIN_S: Final = 0.2  # After a round that failed.
WAIT_MAX_S: Final = 3.0  # For a round, or an op, that does not come to its end; a removal for silence is sooner.


class Rounds:
    """The readers of one term; one round at a time, for all who came before it began."""

    def __init__(self, epoch: int, calls: Iterator[int]) -> None:
        """Begin without readers; ``epoch`` is the term's."""
        self._epoch = epoch
        self._calls = calls
        self._readers: list[Token] = []  # For the next round.
        self._asking: list[Token] = []  # Of the one that is under way; empty: there is none.
        self._open: set[int] = set()  # The calls of that which are not answered.
        self._not_before = 0.0  # The last one failed.
        self._waits_since: float | None = None  # So long some reader waits, and no round has come to its end.

    def __bool__(self) -> bool:
        return bool(self._readers or self._asking)

    @property
    def tokens(self) -> list[Token]:
        """All who wait."""
        return [*self._asking, *self._readers]

    def add(self, token: Token) -> None:
        """Take a reader; a round that begins from now on must succeed first."""
        self._readers.append(token)

    def asks(self, call: int) -> bool:
        """Tell whether that is an open call of the round that is under way."""
        return call in self._open

    def confirmed(self, call: int) -> None:
        """Take an OK."""
        self._open.remove(call)

    def failed(self, now: float) -> None:
        """Begin the round again soon, for the same readers and for those who came since."""
        self._readers, self._asking = self.tokens, []
        self._open.clear()
        self._not_before = now + AGAIN_S

    def go_on(self, required: Mapping[str, Peer], now: float, looked: float, effects: Effects) -> None:
        """Answer the readers of a round that succeeded, and begin the next one.

        Args:
            required: Whom to ask.
            now: The time.
            looked: The same, as the term's ``Looks`` count it.
            effects: Gets the calls and the answers.
        """
        if self._asking and not self._open:
            self._tell(effects)
        if not self._asking and self._readers and now >= self._not_before:
            self._asking, self._readers = self._readers, []
            for shard, peer in required.items():
                call = next(self._calls)
                self._open.add(call)
                peer.round_since = looked if peer.round_since is None else peer.round_since
                effects.now.append(Send(shard, call, Confirm(self._epoch, peer.incarnation)))
            if not self._open:
                self._tell(effects)
        self._refuse_late(required, now, effects)

    def _tell(self, effects: Effects) -> None:
        effects.later.append(Tell(tuple(self._asking)))
        self._asking, self._waits_since = [], None

    def _refuse_late(self, required: Mapping[str, Peer], now: float, effects: Effects) -> None:
        """Refuse all who wait for a round, if none has come to its end for too long; as with the queue."""
        if not self:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now
        elif now - self._waits_since > WAIT_MAX_S:
            effects.now.append(Refuse(tuple(self.tokens), node_pb2.OUTCOME_NOT_READY))
            self._readers, self._asking, self._waits_since = [], [], None
            self._open.clear()
            for peer in required.values():
                peer.round_since = None  # Nobody waits for it any more.
