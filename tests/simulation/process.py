"""One shard's process: drives the real core, one step at a time for each slot, as ``Replica`` asks for."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from protos.tally.internal.v1 import node_pb2
from shard.replica.replica import Replica, Role
from shard.replica.term import Phase
from shard.replica.words import (
    Ahead,
    Answer,
    Ask,
    Build,
    Clone,
    Cloned,
    Commit,
    Effects,
    Grant,
    Heads,
    Install,
    Message,
    Refuse,
    Rename,
    Reply,
    RereadMap,
    Send,
    Stored,
    Tell,
    Verdict,
)
from tally.client import hour_read
from tally.client.counts import HourCounts
from tally.client.outbox import Question, SubBatch
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap, SlotRow
from tests.simulation.content import CONTENT_DIFFERS, OUT_OF_ORDER, build
from tests.simulation.controller import Controller
from tests.simulation.etcd import Seen
from tests.simulation.held import Batch, Bucket, Copy, Moment, Read
from tests.simulation.ledger import Posted
from tests.simulation.network import CALL_S
from tests.simulation.planner import Health, SlotHealth
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.gateway import Gateway
    from tests.simulation.machine import Machine

TICK_S: Final = 0.2
POLL_S: Final = 0.4
OK: Final = node_pb2.OUTCOME_OK
NOT_READY: Final = node_pb2.OUTCOME_NOT_READY


class Process:
    """A shard while it runs."""

    def __init__(self, cluster: "Cluster", machine: "Machine") -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._send = cluster.network.send
        self._machine = machine
        self._now = machine.now
        self.name: Final = machine.name
        self.copies = [Copy(slot, self._replica(slot), disk) for slot, disk in enumerate(machine.disk.copies)]
        self._others: dict[str, str] = {}  # Shard -> the process that was alive last.
        self._dead = False
        self.paused = False
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._calls: dict[int, tuple[float, Copy, str]] = {}  # Open calls: until when, of whom, to whom.
        self._unflushed: deque[tuple[Copy, Effects]] = deque()
        self._flush_begins = self._flush_ends = -1.0  # Of the last flush that began, or is to follow that.
        self._bits = str(next(cluster.leases))  # What it stands for in its alive key.
        self._registered = False
        self._lease = 0
        self._polling = False
        self._map_revision = 0
        self._controller_name = ""
        self.controller: Controller | None = None
        self._acts: dict[type, Callable[..., None]] = {
            Send: self._act_send,
            Reply: self._act_reply,
            Grant: self._act_grant,
            Build: self._act_build,
            Commit: self._act_commit,
            Refuse: self._act_refuse,
            Tell: self._act_tell,
            Ask: self._act_ask,
            Ahead: self._act_ahead,
            RereadMap: self._act_reread_map,
        }

    # Life and death.

    def _replica(self, slot: int) -> Replica:
        stored, founding = self._machine.disk.copies[slot].stored, self._machine.founding.pop(slot, None)
        replica = Replica(
            self.name,
            Stored() if founding else stored,
            calls=self._cluster.calls,
            incarnations=self._cluster.incarnations,
        )
        if founding:
            replica.found(founding)
        return replica

    @property
    def has_map(self) -> bool:
        """It has read the map since it began; before, it takes no calls."""
        return self._map_revision > 0

    def begin(self) -> None:
        """Start the timers. The first map is read when all know that requests of the process before are over."""
        self._register()
        self._world.after(self._world.chance() * TICK_S, self.enter, self._tick)
        self._world.after(self._world.chance() * POLL_S, self.enter, self._poll_timer)

    def enter(self, act: Callable[..., None], *args: Any) -> None:
        """Let something happen in this process, when it runs."""
        if self.paused:
            self._inbox.append((act, args))
        elif not self._dead:
            act(*args)

    def pause(self) -> None:
        """Stop: timers and what arrives wait."""
        self.paused = True

    def resume(self) -> None:
        """Go on; all that waited happens now."""
        self.paused = False
        while self._inbox and not self.paused:
            act, args = self._inbox.popleft()
            self.enter(act, *args)

    def die(self) -> None:
        """End. Of the writes that were not flushed any number of the first ones is on disk all the same."""
        self._dead = True
        self.paused = False
        self.controller = None
        lucky = self._world.random.randrange(len(self._unflushed) + 1)
        for copy, effects in list(self._unflushed)[:lucky]:
            self._machine.disk.write(copy.slot, effects.writes)

    def _tick(self) -> None:
        self._world.after(self._machine.real_s(TICK_S), self.enter, self._tick)
        now = self._world.now
        calls = self._calls
        while calls:
            call = next(iter(calls))
            until, copy, shard = calls[call]
            if until > now:
                break
            del calls[call]
            self._step(copy, _given_up, copy.replica, shard, call)
        for copy in self.copies:
            if not (copy.busy or self._inbox):  # All that has arrived was heard.
                self._step(copy, copy.replica.tick)

    # etcd.

    def _register(self) -> None:
        self._lease = next(self._cluster.leases)
        etcd = self._cluster.etcd
        etcd.request(self.name, etcd.register, (self.name, self._lease, self._bits), self._register_answer)

    def _register_answer(self, done: bool | None) -> None:
        self.enter(self._is_registered, done)

    def _is_registered(self, done: bool | None) -> None:
        if done and not self._registered:
            self._registered = True
            self.poll()

    def _poll_timer(self) -> None:
        self._world.after(self._machine.real_s(POLL_S), self.enter, self._poll_timer)
        self.poll()

    def poll(self) -> None:
        """Renew the lease, stand for controller and read the map."""
        if not self._registered:
            self._register()
        elif not self._polling:
            self._polling = True
            etcd = self._cluster.etcd
            etcd.request(self.name, etcd.poll, (self.name, self._lease), self._poll_answer)

    def _poll_answer(self, seen: Seen | None) -> None:
        self.enter(self._polled, seen)

    def _polled(self, seen: Seen | None) -> None:
        self._polling = False
        if seen is None:
            return
        if not seen.lease_held:
            self._register()
        if not seen.leads:
            self.controller = None
        elif self.controller is None or self.controller.revision != seen.controller_revision:
            self.controller = Controller(self._cluster, self, seen.controller_revision)
            self.controller.begin()
        self._controller_name = seen.controller
        for shard, process in seen.alive.items():
            if self._others.get(shard) != process:
                self._others[shard] = process
                self._restarted(shard)
        self._see_map(seen.map, seen.map_revision)

    def _restarted(self, shard: str) -> None:
        for copy in self.copies:
            self._step(copy, copy.replica.restarted, shard)

    def pushed(self, new: SlotMap, revision: int) -> None:
        """Take a map from the controller; who has read none yet goes by what it reads itself."""
        if self.has_map:
            self._see_map(new, revision)

    def _see_map(self, new: SlotMap, revision: int) -> None:
        """Take a map, which may be an old one."""
        if revision < self._map_revision:
            return
        self._map_revision = revision
        for copy, row in zip(self.copies, new.rows, strict=True):
            wished = self.name in new.joining.get(copy.slot, ()) and not self._machine.disk_full
            if row is not copy.row or wished is not copy.wished:
                copy.row, copy.wished = row, wished
                self._step(copy, _see_row, copy.replica, row, wished)

    def health(self, controller: Controller, asked: float) -> None:
        """Answer a controller's health call."""
        status: Health = tuple(
            SlotHealth(
                copy.replica.stored.incarnation if copy.replica.stored.complete else "",
                copy.replica.row.epoch if copy.replica.row is not None else 0,
                copy.replica.role is Role.SERVING,
                copy.replica.stored.head.name,
            )
            for copy in self.copies
        )
        self._send(self.name, controller.name, controller.healthy, self.name, asked, status)

    def requested(self, request: Request) -> None:
        """Take what a primary asks of the controller, if it is this one."""
        if self.controller is not None:
            self.controller.request(request)

    # What arrives.

    def called(self, caller: str, slot: int, call: int, message: Message) -> None:
        """Take another shard's call."""
        copy = self.copies[slot]
        self._step(copy, partial(self._receive, copy), caller, call, message)

    def _receive(  # noqa: PLR0917 - a step.
        self, copy: Copy, caller: str, call: int, message: Message, now: float, effects: Effects
    ) -> None:
        known = copy.replica.row.epoch if copy.replica.row is not None else 0
        new = isinstance(message, Heads) and message.epoch > max(known, copy.replica.stored.epoch)
        copy.replica.receive(caller, call, message, now, effects)
        if new and copy.replica.stored.complete and _verdicts(effects) == {Verdict.NO_COPY}:
            raise Broken(f"rule 9: slot {copy.slot}: {self.name} hides its copy from a newer term")

    def answered(self, shard: str, slot: int, call: int, answer: Answer | Cloned) -> None:
        """Take an answer, perhaps long after the call was given up."""
        self._calls.pop(call, None)
        copy = self.copies[slot]
        self._step(copy, copy.replica.answered, shard, call, answer)

    def refused(self, shard: str, slot: int, call: int) -> None:
        """Learn that a machine refuses connections."""
        if self._calls.pop(call, None) is not None:
            copy = self.copies[slot]
            self._step(copy, _refused, copy.replica, shard, call)

    def batch(self, gateway: "Gateway", batch: SubBatch[Posted]) -> None:
        """Take a sub-batch."""
        if self._machine.disk_full:
            self._send(self.name, gateway.name, gateway.batch_answered, batch.slot, batch.id, NOT_READY)
        else:
            copy = self.copies[batch.slot]
            self._step(copy, copy.replica.submit, (Batch(gateway, batch),))

    def question(self, gateway: "Gateway", question: Question) -> None:
        """Tell a writer how many ops of a slot are committed, if this shard serves it."""
        copy = self.copies[question.slot]
        serves = copy.replica.role is Role.SERVING
        opnum = copy.replica.stored.head.name.opnum - (copy.under_way is not None) if serves else 0
        outcome = OK if serves else NOT_READY
        self._send(self.name, gateway.name, gateway.batch_answered, question.slot, question.id, outcome, opnum)

    def read(self, gateway: "Gateway", ask: hour_read.Ask) -> None:
        """Take a question; readers do not wait for a flush."""
        read = Read(gateway, ask)
        for bucket in ask.buckets:
            copy = self.copies[self._cluster.slot_of(ask.hour, bucket)]
            effects, token = Effects(), Bucket(read, bucket)
            at_once = copy.replica.reads_at_once
            copy.replica.read(token, self._now(), effects)
            assert not (copy.busy and effects.writes)
            if at_once:  # The engine does not ask the rules then.
                assert not effects.writes
                assert Tell((token,)) in effects.later
            self._carry_out(copy, effects)

    def switch_to(self, slot: int, shard: str) -> None:
        """Hand a slot over, if it is served here."""
        copy = self.copies[slot]
        self._step(copy, copy.replica.switch_to, shard)

    # Steps.

    def _step(self, copy: Copy, act: Callable[..., None], *args: Any) -> None:
        if copy.busy:
            copy.waiting.append((act, args))
            return
        effects = Effects()
        act(*args, self._now(), effects)
        self._carry_out(copy, effects)

    def _carry_out(self, copy: Copy, effects: Effects) -> None:
        if copy.term is not copy.replica.term:
            self._new_term(copy)
        acts = self._acts
        for act in effects.now:  # It may grow meanwhile.
            acts[type(act)](copy, act, effects)
        if not effects.writes:
            for act in effects.later:
                acts[type(act)](copy, act, effects)
            return
        copy.busy = True
        self._unflushed.append((copy, effects))
        self._world.at(self._flush(), self.enter, self._flushed, copy, effects)
        if self._machine.kill_at_flush is not None:
            self._world.after(0.0, self._machine.kill_at_flush)
            self._machine.kill_at_flush = None
        if copy.under_way is not None and self._cluster.moments:
            self._moment(Moment.BUILT, copy.slot, self.name)

    def _flush(self) -> float:
        """Return when what was written now is durable: all that comes while a flush runs goes with the next one."""
        now = self._world.now
        if now > self._flush_begins:
            self._flush_begins = max(now, self._flush_ends)
            self._flush_ends = self._flush_begins + 0.0005 + 0.03 * self._world.chance() ** 4 + self._machine.fsync_s
        return self._flush_ends

    def _flushed(self, copy: Copy, effects: Effects) -> None:
        first = self._unflushed.popleft()
        assert first[1] is effects
        self._machine.disk.write(copy.slot, effects.writes)
        copy.busy = False
        copy.replica.flushed(self._now())
        if isinstance(effects.writes[0], Install | Rename):
            row = self._cluster.etcd.map.rows[copy.slot]
            self._cluster.check_members(copy.slot, row)
            self._moment(Moment.JOINED, copy.slot, row.primary)
        for act in effects.later:
            self._acts[type(act)](copy, act, effects)
        while copy.waiting and not copy.busy:
            step, args = copy.waiting.popleft()
            self._step(copy, step, *args)

    def _new_term(self, copy: Copy) -> None:
        """Leave what is in doubt to its writers, who send it again (rule 14)."""
        copy.term = copy.replica.term
        copy.under_way = None
        self._world.trace(f"{self.name} slot {copy.slot}: {copy.replica.role.value}, {copy.replica.row}")
        answers, copy.outcomes = copy.outcomes, []
        for token, _ in answers:
            self._answer(token, NOT_READY)
        if copy.term is not None:
            self._moment(Moment.TERM, copy.slot, self.name)

    def _moment(self, moment: Moment, slot: int, other: str) -> None:
        """Let something go wrong that waits for this moment."""
        strike = self._cluster.moments.pop(moment, None)
        if strike is not None:
            self._world.after(0.0, strike, slot, self.name, other)

    def _answer(self, token: Batch, outcome: int, opnum: int = 0, epoch: int = 0) -> None:
        gateway, batch = token.gateway, token.batch
        self._send(self.name, gateway.name, gateway.batch_answered, batch.slot, batch.id, outcome, opnum, epoch)

    # Actions.

    def _act_send(self, copy: Copy, act: Send, _: Effects) -> None:
        row = copy.replica.row
        if isinstance(act.message, Clone) and (row is None or copy.replica.stored.epoch > row.epoch):
            raise Broken(f"rule 9: slot {copy.slot}: {self.name} calls for a clone by an old row")
        self._calls[act.call] = (self._world.now + self._machine.real_s(CALL_S), copy, act.to)
        self._cluster.callers[act.call] = self
        machine = self._cluster.machines[act.to]
        self._send(self.name, act.to, machine.called, self, copy.slot, act.call, act.message)

    def _act_reply(self, copy: Copy, act: Reply, _: Effects) -> None:
        caller = self._cluster.callers[act.call]
        answer = act.answer
        if isinstance(answer, Answer) and answer.verdict is not Verdict.OK:
            self._world.totals[answer.verdict.name] += 1
        self._send(self.name, act.to, caller.enter, caller.answered, self.name, copy.slot, act.call, answer)

    def _act_grant(self, copy: Copy, act: Grant, _: Effects) -> None:
        disk = copy.disk
        if act.head.name != disk.stored.head.name or copy.busy or copy.under_way is not None:
            raise Broken(f"rule 9: slot {copy.slot} grants {act.head.name} in the middle of an op")
        ops = disk.ops_after(act.after)
        content = disk.content.copy() if ops is None else None
        answer = Cloned(granted=True, epoch=act.epoch, ops=ops, head=act.head, content=content)
        self._act_reply(copy, Reply(act.to, act.call, answer), _)
        self._moment(Moment.GRANTED, copy.slot, act.to)

    def _act_build(self, copy: Copy, act: Build, effects: Effects) -> None:
        assert copy.under_way is None
        op, outcomes, building = build(
            copy.disk.content, [token.batch for token in act.tokens], act.epoch, act.previous
        )
        self._world.totals["duplicates"] += building.duplicates
        self._world.totals["known keys"] += building.known_keys
        for token, outcome in zip(act.tokens, outcomes, strict=True):
            if outcome in {OUT_OF_ORDER, CONTENT_DIFFERS}:
                batch = token.batch
                raise Broken(f"slot {copy.slot}: {batch.seq} of writer {batch.writer.hex()} has outcome {outcome}")
        copy.outcomes = list(zip(act.tokens, outcomes, strict=True))
        if op is not None:
            copy.under_way = op
            self._cluster.history.built(copy.slot, op)
        copy.replica.built(op, self._now(), effects)

    def _act_commit(self, copy: Copy, _act: Commit, _: Effects) -> None:
        if copy.under_way is not None:
            assert copy.term is not None
            row = copy.term.row
            if len(row.in_sync) < row.min_copies:
                raise Broken(f"rule 15: slot {copy.slot} commits with too few copies: {row}")
            self._cluster.history.committed(copy.slot, copy.under_way, self.name)
            self._cluster.check_members(copy.slot, self._cluster.etcd.map.rows[copy.slot])
            copy.under_way = None
            self._world.totals["ops"] += 1
        answers, copy.outcomes = copy.outcomes, []
        opnum = copy.replica.stored.head.name.opnum
        epoch = copy.row.epoch if copy.row is not None else 0
        for token, outcome in answers:
            self._answer(token, outcome, opnum, epoch)

    def _act_refuse(self, _copy: Copy, act: Refuse, _: Effects) -> None:
        for token in act.tokens:
            if isinstance(token, Batch):
                self._answer(token, act.outcome)
            else:
                token.read.refused.append(token.bucket)
                self._bucket_done(token.read)

    def _act_tell(self, copy: Copy, act: Tell, _: Effects) -> None:
        assert copy.term is not None
        assert copy.term.phase is Phase.SERVING
        disk, under_way = copy.disk, copy.under_way
        without = under_way.body if under_way is not None and disk.stored.head.name == under_way.name else None
        for token in act.tokens:
            read = token.read
            counts = disk.content.counts(read.ask.hour, without)
            read.sums = HourCounts(*(have + more for have, more in zip(read.sums, counts, strict=True)))
            self._bucket_done(read)

    def _bucket_done(self, read: Read) -> None:
        read.missing -= 1
        if read.missing == 0:
            gateway = read.gateway
            self._send(self.name, gateway.name, gateway.read_answered, read.ask, read.sums, read.refused)

    def _act_ask(self, copy: Copy, act: Ask, _: Effects) -> None:
        self._check_blame(copy, act)
        if self._controller_name:
            request = Request(act.change, copy.slot, act.epoch, act.shard, act.incarnation, self._bits, act.head)
            if act.change is Change.REMOVE:
                if act.head is None:
                    self._cluster.set_backs.removals.add((copy.slot, act.epoch, act.shard))
                else:
                    self._world.totals["doubted requests"] += 1
            machine = self._cluster.machines[self._controller_name]
            self._cluster.etcd.slowly(self._send, self.name, self._controller_name, machine.request, request)
            if act.change in {Change.ADD, Change.PROMOTE}:
                self._moment(Moment.ASKED, copy.slot, act.shard)

    def _check_blame(self, copy: Copy, act: Ask) -> None:
        """Check that nobody counts as silent while an answer of his waits, and that the term's epoch is flushed."""
        if act.change is Change.REMOVE:
            unheard = {args[0] for step, args in copy.waiting if step == copy.replica.answered}
            unheard |= {args[0] for step, args in self._inbox if step == self.answered and args[1] == copy.slot}
            if act.shard in unheard and copy.term is not None and act.shard in copy.term.wishes.silent:
                raise Broken(f"rule 5: slot {copy.slot}: {self.name} blames {act.shard}, whose answer waits")
            if copy.disk.stored.epoch < act.epoch:
                raise Broken(f"rule 2: slot {copy.slot}: {self.name} asks under epoch {act.epoch}, not flushed")

    def _act_ahead(self, copy: Copy, act: Ahead, _: Effects) -> None:
        raise Broken(f"slot {copy.slot}: {self.name} has {act.mine}, and {act.shard}, which joins, has {act.head}")

    def _act_reread_map(self, _copy: Copy, _act: RereadMap, _: Effects) -> None:
        self.poll()


def _verdicts(effects: Effects) -> set[Verdict]:
    answers = [act.answer for act in effects.later if isinstance(act, Reply)]
    return {answer.verdict for answer in answers if isinstance(answer, Answer)}


def _given_up(replica: Replica, shard: str, call: int, now: float, effects: Effects) -> None:
    replica.failed(shard, call, now, effects, refused=False)


def _refused(replica: Replica, shard: str, call: int, now: float, effects: Effects) -> None:
    replica.failed(shard, call, now, effects, refused=True)


def _see_row(replica: Replica, row: SlotRow, wished: bool, now: float, effects: Effects) -> None:
    replica.see_row(row, wished=wished, now=now, effects=effects)
