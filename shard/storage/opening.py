"""What a shard finds in its store when it starts."""

from typing import NamedTuple

from shard.clones.cloning import drop_changes, head_name
from shard.counting.keys import RECORDS, STAGED, CopyRecord, log_key, slot_of_record
from shard.counting.op_log import LogEntry
from shard.replica.words import Op, Stored
from shard.storage.store import Store
from tally.cluster.slot_map import SlotRow
from tally.errors import StoreCorrupt


class Found(NamedTuple):
    """The copies of a store.

    Attributes:
        copies: Slot -> its record, and what its rules are to know.
        generation: The highest that was ever used.
    """

    copies: dict[int, tuple[CopyRecord, Stored]]
    generation: int


def look_over(store: Store) -> Found:
    """Read all records; clones that were begun and never installed are dropped.

    Raises:
        StoreCorrupt: A record can't be read, or its head is not what the op log says.
    """
    records = {slot_of_record(key): CopyRecord.decode(value) for key, value in store.scan(*RECORDS)}
    staged = [int.from_bytes(key[1:], "big") for key, _ in store.scan(*STAGED)]
    store.write(drop_changes(generation) for generation in staged)
    heads = store.get([log_key(record.generation, record.opnum) for record in records.values()])
    copies = {
        slot: (record, Stored(record.incarnation.hex(), complete=True, epoch=record.epoch, head=_head(record, entry)))
        for (slot, record), entry in zip(records.items(), heads, strict=True)
    }
    return Found(copies, max([*(record.generation for record in records.values()), *staged], default=0))


def _head(record: CopyRecord, entry: bytes | None) -> Op:
    name = head_name(record)
    if entry is None or not record.log_from:
        return Op(name)
    logged = LogEntry.decode(entry)
    if logged.name != name:
        raise StoreCorrupt("the op log's last entry")
    return Op(name, logged.previous, logged.body)


def founds(row: SlotRow, record: CopyRecord | None, shard: str, directory: str) -> bool:
    """Tell whether a row begins an empty copy on ``shard``: it founds the cluster, and names this very directory.

    Only in a directory that never had a copy; who calls this knows about the others.
    """
    return record is None and row.epoch == 1 and row.in_sync.get(shard) == directory
