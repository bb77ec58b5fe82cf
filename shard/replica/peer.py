"""What a primary knows in one term of each other copy, and of a round of Confirm. ``term`` changes these values."""

from collections import deque
from typing import Final

from shard.replica.words import Op, Token
from tally.cluster.op_name import OpName

JOINER_FIRST_S: Final = 0.02  # The first pause after a joiner that has nothing yet; each is twice as long, to RESEND_S.


class Peer:
    """Another copy, as the primary sees it in this term."""

    __slots__ = (
        "acked",
        "acks",
        "behind",
        "call",
        "heads",
        "incarnation",
        "paced_until",
        "pause_s",
        "refused",
        "resend_at",
        "round_failed_at",
        "since",
        "unanswered",
    )

    def __init__(self, incarnation: str, now: float) -> None:
        self.incarnation = incarnation
        self.acked: OpName | None = None  # In this term, and under this incarnation.
        self.heads: Op | None = None
        self.call = 0  # The one that is open; 0: none.
        self.unanswered: OpName | None = None  # The op of that call.
        self.resend_at = now
        self.since = now  # When it was last heard of, or first called in vain.
        self.refused = False
        self.round_failed_at: float | None = None  # Since when it answers no Confirm.
        # Of joiners only: the ops that it has still to acknowledge, in order, and how the queue is paced for that.
        self.behind: deque[Op] = deque()
        self.acks = 0  # Since the last op was built.
        self.paced_until: float | None = None  # None until it acknowledges something.
        self.pause_s = JOINER_FIRST_S


class Round:
    """One round of Confirm (rule 12)."""

    __slots__ = ("calls", "tokens")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.calls: dict[int, str] = {}  # Call -> shard; empty when all have answered.
