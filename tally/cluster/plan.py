"""What the controller does next, as a pure function of what etcd says.

| map | members that are alive and wanted | plan |
|---|---|---|
| none | fewer than ``first_shards`` | wait |
| none | ``first_shards`` or more | make the first map of all of them |
| there | any | nothing: the slots stay where they are |
"""

from tally.cluster.members import Wanted
from tally.cluster.placement import first_map
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState


def next_map(state: ClusterState) -> SlotMap | None:
    """Return the map to write instead of the present one, or None if it stays."""
    if state.map is not None:
        return None
    present = {
        shard: member
        for shard, member in state.members.items()
        if shard in state.alive and member.wanted is Wanted.ACTIVE
    }
    if len(present) < state.config.first_shards:
        return None
    return first_map(state.config.shape.slots, present)
