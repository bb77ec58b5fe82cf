"""Which sub-batches are counted: the writers' rows of one copy while an op is built (PROTOCOL rule 13).

A writer knows a number: ``heard``, the highest opnum of the slot that was committed as far as it was told when it
numbered its sub-batch. Rows are forgotten when there are too many, those with the lowest numbers first; the copy's
floor is above all numbers that were ever forgotten.

Invariants:
  * a writer of whom anything was counted has a row, or every number that it sent so far is below the floor;
  * the floor never falls, and is never above the number of the op that raises it: who has just heard is not below it;
  * a number above the last op is never stored: forgotten some day, it would shut out everybody.

No clock: how long ago something was plays no part. A process may sleep for days, and its sub-batch arrive after that.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import CopyRecord, WriterRow, heard_of


class WriterLimits(NamedTuple):
    """How many writers a copy knows.

    Attributes:
        rows: So many at most.
        forgotten_at_once: So many are forgotten when one more comes, for each time all rows are looked through.
    """

    rows: int = 4096
    forgotten_at_once: int = 512


LIMITS: Final = WriterLimits()


class Numbered(Protocol):
    """What of a sub-batch says whether it is to be counted."""

    @property
    def seq(self) -> int:
        """Its number, from 1."""

    @property
    def heard(self) -> int:
        """The highest committed opnum that its writer had heard when it numbered this."""


class Answer(NamedTuple):
    """What a sub-batch is told: see ``SubBatchAnswer``."""

    outcome: node_pb2.Outcome.ValueType
    refusals: bytes = b""
    reason: str = ""


class Writers:
    """The writers of one copy while an op is built.

    Attributes:
        count: How many rows there will be.
        floor: The copy's floor after the op.
        written: The rows that the op writes, by their keys.
        forgotten: The keys of the rows that it removes.
    """

    def __init__(
        self,
        record: CopyRecord,
        found: Mapping[bytes, bytes | None],
        all_rows: Mapping[bytes, bytes] | None,
        limits: WriterLimits,
    ) -> None:
        """Begin with what is stored.

        Args:
            record: The copy's.
            found: The rows of the op's writers, by their keys; None where there is none.
            all_rows: All rows of the copy, if ``wants_rows``.
            limits: How many writers are known.
        """
        self.count = record.writers
        self.floor = record.floor
        self.written: dict[bytes, WriterRow] = {}
        self.forgotten: list[bytes] = []
        self._opnum = record.opnum
        self._found = found
        self._limits = limits
        # The op's own writers stay: some of their sub-batches may be judged by now.
        others = [(heard_of(row), key) for key, row in (all_rows or {}).items() if key not in found]
        self._to_forget = sorted(others, reverse=True)  # The lowest is the last.

    def judge(self, key: bytes, batch: Numbered, content: bytes) -> Answer | None:
        """Return what a sub-batch is told that is not to be counted; None: count it, and call ``counted``.

        Args:
            key: Of its writer's row.
            batch: The sub-batch.
            content: The digest of what is in it.
        """
        row = self._row(key)
        if row is not None:
            return self._judge_known(row, batch, content)
        if not self.floor <= batch.heard <= self._opnum:
            return Answer(node_pb2.OUTCOME_FORGOTTEN)
        # Whatever its number is: what came before it was counted, answered and forgotten, or lost.
        return None if self._has_room() else Answer(node_pb2.OUTCOME_NOT_READY)

    def _judge_known(self, row: WriterRow, batch: Numbered, content: bytes) -> Answer | None:
        if batch.seq == row.seq and row.content != content:
            return Answer(node_pb2.OUTCOME_CONTENT_DIFFERS)
        if batch.seq <= row.seq:
            # Of one before the last it is a late repetition that nobody waits for.
            return Answer(node_pb2.OUTCOME_OK, row.refusals if batch.seq == row.seq else b"")
        if batch.seq != row.seq + 1:
            return Answer(node_pb2.OUTCOME_OUT_OF_ORDER)
        # A number from a line of ops that was given up is not to be stored.
        return Answer(node_pb2.OUTCOME_FORGOTTEN) if batch.heard > self._opnum else None

    def counted(self, key: bytes, batch: Numbered, content: bytes, refusals: bytes) -> None:
        """Note that a sub-batch is counted, because ``judge`` said so."""
        row = self._row(key)
        self.count += row is None
        heard = batch.heard if row is None else max(batch.heard, row.heard)
        self.written[key] = WriterRow(batch.seq, heard, content, refusals)

    def _row(self, key: bytes) -> WriterRow | None:
        if key in self.written:
            return self.written[key]
        stored = self._found[key]
        return WriterRow.decode(stored) if stored is not None else None

    def _has_room(self) -> bool:
        """Make room for one more row if there is none; False if all rows are those of this op's writers."""
        while self.count >= self._limits.rows and self._to_forget:
            gone = self._to_forget[-self._limits.forgotten_at_once :]
            del self._to_forget[-len(gone) :]
            self.forgotten += [key for _, key in gone]
            self.count -= len(gone)
            highest, _ = gone[0]
            self.floor = max(self.floor, highest + 1)
        return self.count < self._limits.rows
