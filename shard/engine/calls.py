"""Calls between copies: ours to other shards, theirs to ours, until they are answered or given up.

Invariants:
  * each call is answered or failed once, and late answers find nobody;
  * what no honest shard says reaches no copy: such a call gets no answer, and such an answer is none;
  * of a clone nothing is written for a call that is not the copy's present one; what is left over is dropped.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog

from shard.clones.cloning import CloneBroken, Staged
from shard.counting.changes import Changes
from shard.counting.content import ContentCheck
from shard.counting.keys import STAGED, CopyRecord
from shard.engine.joined import Joined
from shard.engine.points import Point, Reached
from shard.engine.slot_copy import SlotCopy
from shard.engine.steps import Outside, Steps, Work
from shard.replica import words
from shard.replica.plausible import fault_of_answer, fault_of_call, fault_of_clone
from shard.replica.replica import Replica
from shard.replica.words import Effects, Op
from shard.storage.disk import Disk
from shard.storage.store import Snapshot, Store
from tally.cluster.op_name import OpName
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import Shape

log = structlog.get_logger()

CALL_S: Final = 1.5
AHEAD_MAX_S: Final = 1.0
LOGGED_MAX: Final = 64
LOG_EVERY_S: Final = 10.0  # However much somebody says that can't be.


class Granted(NamedTuple):
    """What a joiner gets: the committed state between two ops, held still by ``snapshot``."""

    snapshot: Snapshot
    record: CopyRecord
    head: Op
    epoch: int
    after: OpName | None


Answered = Callable[[words.Answer | Granted | None], None]
"""Takes the answer to another shard's call; None: a clone is not granted, or there is no answer to anything else."""


class _Called(NamedTuple):
    """Another shard's call."""

    sender: str
    number: int
    message: words.Message


class Calls:
    """All open calls of one shard. Belongs to one event loop."""

    def __init__(
        self,
        copies: Sequence[SlotCopy],
        steps: Steps,
        work: Work,
        *,
        store: Store,
        disk: Disk,
        outside: Outside,
        generations: Callable[[], int],
        drop: Callable[[int], None],
        reached: Reached,
        shape: Shape,
    ) -> None:
        """Prepare.

        Args:
            copies: By slot.
            steps: Lets them take steps.
            work: Is told of a disk that fails.
            store: What clones for others are read from.
            disk: The same, for writing clones that come.
            outside: The other shards.
            generations: Gives a new generation.
            drop: Takes the generation of a clone that is not wanted any more.
            reached: Told of each step of a move.
            shape: What is fixed for the cluster.
        """
        self._copies = copies
        self._shape = shape
        self._refused_at = float("-inf")  # When it was logged last.
        self._steps = steps
        self._work = work
        self._store = store
        self._disk = disk
        self._outside = outside
        self.new_generation = generations
        self.drop_generation = drop
        self._reached = reached
        self._ours: dict[int, tuple[float, SlotCopy, str]] = {}  # Until when, of whom, to whom.
        self._clones: dict[int, SlotCopy] = {}  # Of ours, those that ask for a clone.
        self._theirs: dict[int, Answered] = {}
        self._numbers = itertools.count(1)
        self._joined = Joined()
        self._ahead: list[tuple[float, SlotCopy, _Called]] = []  # Calls by rows that were not read here yet.
        steps.on(words.Send, self._act_send)
        steps.on(words.Reply, self._act_reply)
        steps.on(words.Grant, self._act_grant)

    # What other shards ask.

    def asked(self, sender: str, slot: int, message: words.Message, answered: Answered) -> int:
        """Take another shard's call; return a number to ``forget`` it by."""
        copy, number = self._copies[slot], next(self._numbers)
        fault = fault_of_call(message, _known(copy))
        if not fault and isinstance(message, words.Forward) and message.op.body is not None:
            fault = ContentCheck(slot, self._shape).fault_of_body(message.op.body, message.op.name.opnum)
        if fault:
            self._refused(sender, slot, fault)
            answered(None)
            return number
        self._theirs[number] = answered
        epoch = 0 if isinstance(message, words.Clone) else message.epoch
        called = _Called(sender, number, message)
        unsure = _needs_a_map(copy, message) or not copy.replica.stored.complete
        if self._steps.is_ahead(copy, epoch) and unsure:
            # Perhaps of a copy that the new row founds: an answer now would say that there is none.
            self._ahead.append((self._steps.now() + AHEAD_MAX_S, copy, called))
        else:
            self._steps.take(copy, copy.replica.receive, *called)
        return number

    def forget(self, number: int) -> None:
        """Note that nobody waits for the answer to that call any more."""
        self._theirs.pop(number, None)

    def let_in(self) -> None:
        """Take the calls whose rows have been read by now, and those that waited long enough."""
        now = self._steps.now()
        waiting, self._ahead = self._ahead, []
        for until, copy, called in waiting:
            assert not isinstance(called.message, words.Clone)
            if called.message.epoch > copy.epoch and now < until:
                self._ahead.append((until, copy, called))
            elif _needs_a_map(copy, called.message):
                answered = self._theirs.pop(called.number, None)
                if answered is not None:
                    answered(None)  # Who called asks again.
            else:
                self._steps.take(copy, copy.replica.receive, *called)

    def _refused(self, shard: str, slot: int, fault: str) -> None:
        now = self._steps.now()
        if now >= self._refused_at + LOG_EVERY_S:
            self._refused_at = now
            log.error("impossible_message_refused", sender=shard[:LOGGED_MAX], slot=slot, reason=fault)

    def _act_reply(self, _copy: SlotCopy, act: words.Reply) -> None:
        answered = self._theirs.pop(act.call, None)
        if answered is not None:
            answered(None if isinstance(act.answer, words.Cloned) else act.answer)

    def _act_grant(self, copy: SlotCopy, act: words.Grant) -> None:
        answered = self._theirs.pop(act.call, None)
        if answered is not None:
            assert copy.record is not None
            assert copy.record.opnum == act.head.name.opnum
            self._reached(Point.CLONE_GRANTED)
            answered(Granted(self._store.snapshot(), copy.record, act.head, act.epoch, act.after))

    # What this shard asks.

    def _act_send(self, copy: SlotCopy, act: words.Send) -> None:
        if isinstance(act.message, words.Clone):
            self._clones[act.call] = copy
        else:
            self._ours[act.call] = (self._steps.now() + CALL_S, copy, act.to)
        self._outside.call(act.to, copy.slot, act.call, act.message)

    def answered(self, shard: str, slot: int, call: int, answer: words.Answer) -> None:
        """Take the answer to a call of ours, perhaps long after it was given up."""
        found = self._ours.get(call)
        if found is None or (found[1].slot, found[2]) != (slot, shard):
            return  # It is somebody else's to answer.
        copy = found[1]
        fault = fault_of_answer(answer, _known(copy), copy.replica.stored.head.name.opnum)
        if not fault and answer.head.body is not None:
            fault = ContentCheck(slot, self._shape).fault_of_body(answer.head.body, answer.head.name.opnum)
        if fault:
            self._refused(shard, slot, fault)
            self.failed(shard, call, refused=False)
            return
        del self._ours[call]
        self._steps.take(copy, copy.replica.answered, shard, call, answer)

    def failed(self, shard: str, call: int, *, refused: bool) -> None:
        """Accept that a call of ours gets no answer; ``refused``: the machine refuses connections."""
        found = self._ours.pop(call, None)
        copy = found[1] if found is not None else self._clones.pop(call, None)
        if copy is not None:
            if copy.replica.joining_call == call:
                copy.clone_bytes = 0
            self._steps.take(copy, partial(copy.replica.failed, refused=refused), shard, call)

    def is_open(self, call: int) -> bool:
        """Tell whether a call of ours still waits for its answer."""
        return call in self._ours

    def all_failed(self, shard: str, *, refused: bool) -> None:
        """Accept that no call to that shard gets an answer any more."""
        for call in [call for call, (_, _, to) in self._ours.items() if to == shard]:
            self.failed(shard, call, refused=refused)

    def give_up_old(self) -> None:
        """Give up the calls that have waited for too long; all wait equally long, so the oldest comes first."""
        now = self._steps.now()
        while self._ours:
            call = next(iter(self._ours))
            until, _, shard = self._ours[call]
            if until > now:
                break
            self.failed(shard, call, refused=False)

    def restarted(self, shard: str) -> None:
        """Note that another process than before answers for a shard: what its copies have is to be seen."""
        for copy in self._copies:
            if copy.replica.term is not None:
                self._steps.take(copy, copy.replica.restarted, shard)

    # Clones that come.

    def log_joins(self, now: float) -> None:
        """Log which copies joined, once that is worth a line."""
        for joins in self._joined.take_due(now):
            log.info("copies_joined", **joins._asdict())

    async def take_part(self, call: int, groups: Sequence[Changes], bytes_so_far: int) -> bool:
        """Write a part of a clone; False if nobody wants it any more."""
        copy = self._clones.get(call)
        if copy is None or copy.replica.joining_call != call:
            return False
        copy.clone_bytes = bytes_so_far
        self._steps.take(copy, _progress, copy.replica, call)
        check = ContentCheck(copy.slot, self._shape)
        for changes in groups:
            own = [entry for entry in changes.puts if entry[0][:1] != STAGED[0]]
            if fault := check.fault_of_entries(own, generation=True):
                raise CloneBroken(fault)
        try:
            for changes in groups:
                await self._disk.write_beside(changes)
        except (StoreFailed, StoreCorrupt) as exc:
            self._work.fail(exc)
            raise
        return True

    def cloned(self, shard: str, call: int, answer: words.Cloned) -> None:
        """Take a clone, or the ops that were missed, all of which came.

        Raises:
            CloneBroken: No honest shard gives that.
        """
        copy = self._clones.get(call)
        if copy is not None and (fault := self._fault_of_clone(copy, answer)):
            raise CloneBroken(fault)
        self._clones.pop(call, None)
        if copy is None:
            self._drop(answer.content)
            return
        copy.clone_bytes = 0
        self._steps.take(copy, partial(self._take_clone, copy, shard), call, answer)

    def _fault_of_clone(self, copy: SlotCopy, answer: words.Cloned) -> str:
        check = ContentCheck(copy.slot, self._shape)
        ops = [op for op in (answer.head, *(answer.ops or ())) if op.body is not None]
        faults = (check.fault_of_body(op.body, op.name.opnum) for op in ops)
        return fault_of_clone(answer, _known(copy)) or next(filter(None, faults), "")

    def _take_clone(  # noqa: PLR0917 - a step.
        self, copy: SlotCopy, shard: str, call: int, answer: words.Cloned, now: float, effects: Effects
    ) -> None:
        copy.replica.answered(shard, call, answer, now, effects)
        kinds = [type(write) for write in effects.writes]
        if words.Install not in kinds:
            self._drop(answer.content)
        if words.Install in kinds or words.Rename in kinds:
            how = "clone" if words.Install in kinds else "catch_up"
            self._steps.redundancy.copy_came(whole=words.Install in kinds)
            self._joined.add(shard, how, len(answer.ops or ()), now)

    def _drop(self, content: Staged | None) -> None:
        if content is not None:
            self.drop_generation(content.generation)


def _known(copy: SlotCopy) -> int:
    """Return the highest epoch that is known here of a slot."""
    return max(copy.epoch, copy.replica.stored.epoch)


def _needs_a_map(copy: SlotCopy, message: words.Message) -> bool:
    """Tell whether a call is not to be answered because no map was shown to the copy's rules yet.

    The disk may have been set back, and the stored epoch with it: a primary that is deposed must not be answered OK.
    Heads acknowledges nothing, and `tally recover` asks for it where there is no map.
    """
    return copy.replica.row is None and not isinstance(message, words.Heads)


def _progress(replica: Replica, call: int, now: float, _: Effects) -> None:
    replica.progress(call, now)
