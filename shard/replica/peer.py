"""What a primary knows in one term of each other copy. ``term`` and ``rounds`` change these values."""

from collections import deque
from typing import Final

from shard.replica.words import Op
from tally.cluster.op_name import OpName

JOINER_FIRST_S: Final = 0.02  # The first pause after a joiner that has nothing yet; each is twice as long, to RESEND_S.


class Peer:
    """Another copy, as the primary sees it in this term. ``since`` and the like are times of the term's ``Looks``."""

    __slots__ = (
        "acked",
        "acks",
        "behind",
        "call",
        "heads",
        "heard",
        "incarnation",
        "paced_until",
        "pause_s",
        "refused",
        "resend_at",
        "round_since",
        "since",
        "unanswered",
    )

    def __init__(self, incarnation: str, now: float, heard: float) -> None:
        self.incarnation = incarnation
        self.acked: OpName | None = None  # In this term, and under this incarnation.
        self.heads: Op | None = None
        self.call = 0  # The one that is open; 0: none.
        self.unanswered: OpName | None = None  # The op of that call.
        self.resend_at = now
        self.heard = heard  # When it last acknowledged something, or was first known.
        self.since: float | None = None  # When the first call left of those that it did not answer; None: no such call.
        self.round_since: float | None = None  # The same, of Confirm.
        self.refused = False  # Its machine refused the last call.
        # Of joiners only: the ops that it has still to acknowledge, in order, and how the queue is paced for that.
        self.behind: deque[Op] = deque()
        self.acks = 0  # Since the last op was built.
        self.paced_until: float | None = None  # None until it acknowledges something.
        self.pause_s = JOINER_FIRST_S

    def waited(self, looked: float) -> float:
        """Return for how long it has not answered what it was asked."""
        return max(looked - since for since in (self.since, self.round_since, looked) if since is not None)

    def flushed(self, looked: float) -> None:
        """Count its silence from now on: before, this copy waited for its own disk."""
        self.since = looked if self.since is not None else None
        self.round_since = looked if self.round_since is not None else None
