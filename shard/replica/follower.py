"""What every copy does when another one speaks: apply, refuse, answer. Rules 2, 3, 5 and 12, in their order."""

from shard.replica.words import (
    Answer,
    Apply,
    Confirm,
    Effects,
    Forward,
    Heads,
    Op,
    Reply,
    SetEpoch,
    Stored,
    Verdict,
)


def raise_epoch(stored: Stored, epoch: int, effects: Effects) -> Stored:
    """Store a higher epoch; it is flushed before anything is answered under it (rule 2)."""
    if epoch <= stored.epoch:
        return stored
    effects.writes.append(SetEpoch(epoch))
    return stored._replace(epoch=epoch)


def apply(stored: Stored, op: Op, effects: Effects) -> Stored:
    """Store the op that follows the head."""
    assert op.previous == stored.head.name
    effects.writes.append(Apply(op))
    return stored._replace(head=op)


def judge_forward(stored: Stored, message: Forward, *, joining: bool) -> Verdict:
    """Decide on an op (rule 3); OK says that it is the head, or is to become it."""
    # While its own Clone call is open a copy acknowledges nothing: the answer may replace it (rule 9).
    if joining or not stored.complete or message.incarnation != stored.incarnation:
        return Verdict.NO_COPY
    if message.epoch < stored.epoch:
        return Verdict.STALE
    if message.op.name == stored.head.name:
        return Verdict.OK
    fits = message.op.previous == stored.head.name and message.op.body is not None
    return Verdict.OK if fits else Verdict.DIVERGED


def forward(stored: Stored, message: Forward, *, joining: bool, effects: Effects) -> tuple[Stored, Verdict]:
    """Take an op in; the answer goes out after a flush that covers it, also for a repeated one (rule 3)."""
    verdict = judge_forward(stored, message, joining=joining)
    if verdict in {Verdict.OK, Verdict.DIVERGED}:
        stored = raise_epoch(stored, message.epoch, effects)
    if verdict is Verdict.OK and message.op.name != stored.head.name:
        stored = apply(stored, message.op, effects)
    return stored, verdict


def heads(stored: Stored, message: Heads, *, joining: bool, effects: Effects) -> tuple[Stored, Verdict]:
    """End what is older, and tell the head (rule 5)."""
    if joining or not stored.complete:
        return stored, Verdict.NO_COPY
    if message.epoch < stored.epoch:
        return stored, Verdict.STALE
    return raise_epoch(stored, message.epoch, effects), Verdict.OK


def confirm(stored: Stored, message: Confirm, *, joining: bool, effects: Effects) -> tuple[Stored, Verdict]:
    """Say whether a higher epoch was seen (rule 12)."""
    if joining or not stored.complete or message.incarnation != stored.incarnation:
        return stored, Verdict.NO_COPY
    if message.epoch < stored.epoch:
        return stored, Verdict.STALE
    return raise_epoch(stored, message.epoch, effects), Verdict.OK


def reply(to: str, call: int, stored: Stored, verdict: Verdict) -> Reply:
    """Return the answer to another copy's call."""
    return Reply(to, call, Answer(verdict, stored.epoch, stored.incarnation, stored.head))
