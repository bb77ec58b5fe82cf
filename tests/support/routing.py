"""What surrounds the two halves of the routed client: the map, the links, the shards. All of it by hand."""

from dataclasses import dataclass, field, replace
from typing import Final

from protos.tally.internal.v1 import node_pb2
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tests.support import cluster_values

SHARDS: Final = ("s0", "s1", "s2")


@dataclass
class Surroundings:
    """A small cluster with a map, whose links only note that they were woken."""

    state: ClusterState = field(default_factory=lambda: cluster_values.state(mapped=True))
    woken: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    rereads: int = 0

    def wake(self, shard: str) -> bool:
        """Stand for the links."""
        if shard in self.unreachable:
            return False
        self.woken.add(shard)
        return True

    def reread_map(self) -> None:
        """Stand for the reader of the map."""
        self.rereads += 1

    def row(self, slot: int) -> SlotRow:
        """Return a row of the map as it stands."""
        assert self.state.map is not None
        return self.state.map.rows[slot]

    def move(self, slot: int, shard: str) -> None:
        """Let ``shard`` own ``slot`` in its next epoch; nobody is told."""
        assert self.state.map is not None
        rows = list(self.state.map.rows)
        rows[slot] = SlotRow(rows[slot].epoch + 1, shard, {shard: self.state.members[shard].directory})
        self.state = replace(self.state, map=SlotMap(tuple(rows)), map_revision=self.state.map_revision + 1)


def answer_to(
    batch: node_pb2.SubBatch,
    outcome: node_pb2.Outcome.ValueType,
    *,
    epoch: int | None = None,
    refusals: bytes = b"",
    opnum: int = 0,
    reason: str = "",
) -> node_pb2.SubBatchAnswer:
    """Answer a sub-batch, in the epoch that it was routed by if no other is given."""
    known = batch.epoch if epoch is None else epoch
    return node_pb2.SubBatchAnswer(
        id=batch.id, outcome=outcome, epoch=known, refusals=refusals, opnum=opnum, reason=reason
    )
