"""The words that copies of a slot talk with, and what they ask of whoever drives them. Pure values."""

from enum import Enum, auto
from typing import Any, NamedTuple

from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.rows import Change

Content = Any
"""All that a slot holds, as its driver hands it over; the rules do not look into it."""

Token = Any
"""Stands for a sub-batch or a reader of the driver's; the rules do not look into it."""

Outcome = int
"""A ``node_pb2.Outcome``."""


class Op(NamedTuple):
    """What a slot commits at once.

    Attributes:
        name: Its own.
        previous: That of the op that it follows.
        body: What it changes; None where only the name is known, in a slot of one copy.
    """

    name: OpName = NOTHING
    previous: OpName = NOTHING
    body: Content = None


class Stored(NamedTuple):
    """What a copy has on disk of itself (rule 2).

    Attributes:
        incarnation: Its name in the map; "" for none.
        complete: It has all that its head says.
        epoch: The highest that it has seen.
        head: What it last applied.
    """

    incarnation: str = ""
    complete: bool = False
    epoch: int = 0
    head: Op = Op()


class Verdict(Enum):
    """How a copy answers another."""

    OK = auto()
    NO_COPY = auto()  # Not that incarnation, or not complete.
    STALE = auto()  # The sender's epoch is over.
    DIVERGED = auto()  # The op does not fit to the head.


class Forward(NamedTuple):
    """Apply this op, or say that you have it (rule 3)."""

    epoch: int
    incarnation: str
    op: Op


class Heads(NamedTuple):
    """Tell your head, and take no older epoch any more (rule 5)."""

    epoch: int


class Confirm(NamedTuple):
    """Say that you have seen no higher epoch (rule 12)."""

    epoch: int
    incarnation: str


class Clone(NamedTuple):
    """Let me have a copy under this new name; ``head`` is what I have, if it is complete (rule 9)."""

    incarnation: str
    head: OpName | None


class Answer(NamedTuple):
    """What Forward, Heads and Confirm are answered with.

    Attributes:
        epoch: The highest that the answering copy has stored.
        incarnation, head: Of the answering copy.
    """

    verdict: Verdict
    epoch: int
    incarnation: str = ""
    head: Op = Op()


class Cloned(NamedTuple):
    """What Clone is answered with.

    Attributes:
        granted: Whether there is something; if not, ask again later.
        ops: All after the joiner's head, if the primary has them still; otherwise None.
        head, content: Everything, as of the head, if ``ops`` is None.
    """

    granted: bool
    epoch: int = 0
    ops: tuple[Op, ...] | None = None
    head: Op = Op()
    content: Content = None


Message = Forward | Heads | Confirm | Clone


# Actions: writes are done in order and flushed together; then those marked "after the flush".


class SetEpoch(NamedTuple):
    """Store a higher epoch."""

    epoch: int


class Apply(NamedTuple):
    """Store what an op changes, and the op as head."""

    op: Op


class Install(NamedTuple):
    """Drop everything and store this copy instead."""

    incarnation: str
    epoch: int
    head: Op
    content: Content


class Rename(NamedTuple):
    """Store a new incarnation and epoch for what is there; all ops to catch up with follow as ``Apply``."""

    incarnation: str
    epoch: int


class Renounce(NamedTuple):
    """Store a new incarnation, which no row names: another member has what this copy lost (rule 5)."""

    incarnation: str


class Send(NamedTuple):
    """Call another shard; the answer, or the failure, comes back with ``call``."""

    to: str
    call: int
    message: Message


class Reply(NamedTuple):
    """Answer a call of another shard."""

    to: str
    call: int
    answer: Answer | Cloned


class Grant(NamedTuple):
    """Answer a Clone with what is committed now, before a ``Build`` of the same step.

    With the ops after ``after`` if they are kept still, else with all content.
    """

    to: str
    call: int
    epoch: int
    head: Op
    after: OpName | None


class Build(NamedTuple):
    """Make an op of these sub-batches after ``previous``, and call ``built`` before anything else."""

    tokens: tuple[Token, ...]
    epoch: int
    previous: OpName


class Commit(NamedTuple):
    """The op that was built last is committed: answer its sub-batches, before a ``Build`` of the same step."""


class Refuse(NamedTuple):
    """Answer sub-batches or readers with something that is not definite."""

    tokens: tuple[Token, ...]
    outcome: Outcome


class Tell(NamedTuple):
    """Answer readers from what is committed now."""

    tokens: tuple[Token, ...]


class Ask(NamedTuple):
    """Ask the controller for a change of the row, executed only at this epoch.

    Attributes:
        shard, incarnation: Whose copy it is about.
        head: If set, the request is doubted (rule 5): this is what the asking copy has.
    """

    change: Change
    epoch: int
    shard: str
    incarnation: str
    head: OpName | None = None


class Ahead(NamedTuple):
    """Tell an operator that a joiner has more than can be: this slot lost something that the joiner has still.

    Attributes:
        shard, head: The joiner, and what it has.
        mine: What this copy has.
    """

    shard: str
    head: OpName
    mine: OpName


class RereadMap(NamedTuple):
    """There is a higher epoch than the map that is known: read it."""


Write = SetEpoch | Apply | Install | Rename | Renounce
Act = Send | Reply | Grant | Build | Commit | Refuse | Tell | Ask | Ahead | RereadMap


class Effects:
    """What one step wants done: the writes; then, at once, ``now``; then, after one flush of the writes, ``later``."""

    __slots__ = ("later", "now", "writes")

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.now: list[Act] = []
        self.later: list[Act] = []
