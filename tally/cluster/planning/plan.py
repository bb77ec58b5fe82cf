"""What the controller does next, as a pure function of what etcd says, of health answers and of its own memory.

| map | members | plan |
|---|---|---|
| perhaps not the newest | | nothing at all: ``standstill.py`` |
| none | fewer than ``first_shards`` that are active and alive | wait |
| none | ``first_shards`` or more | make the first map of all of them, all copies at once |
| there | a primary or a backup died, or lost its copy | ``failover.py``, for all rows at once |
| there | the slots are not where they are to be | ``moves.py``, some at a time |
| there | all is as it is to be | nothing |

Where they are to be is computed by ``placement.py`` when the members or the number of copies change, and remembered
until they do: so a move that is under way is not thought over, and a failover is undone when the shard is back. A new
controller computes it from the map and the wishes in it.

Planning on a plan's own result, with everything done, gives nothing more to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tally.cluster.members import Wanted
from tally.cluster.planning.failover import fail_over
from tally.cluster.planning.health import Memory, ShardHealth, Sight, TargetFor
from tally.cluster.planning.moves import switches, tidied, wishes
from tally.cluster.planning.placement import first_map, target_of
from tally.cluster.planning.standstill import Standstill, epochs_told, standstill
from tally.cluster.rows import with_rows
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        map: To be written instead of the present one, in one transaction; None if it stays.
        switches: Slot -> to whom its primary should hand it over; a hint to that primary, repeated while it is due.
        held: Too few members live: requests to remove or to promote are not executed either.
        unreachable: Who has an alive key, but did not answer for long.
        standstill: Why there is no plan, and no request is executed; None if there is one.
        notes: What was decided, for the log: event names with a slot count.
        memory: For the next plan.
    """

    map: SlotMap | None = None
    switches: Mapping[int, str] = field(default_factory=dict)
    held: bool = False
    unreachable: frozenset[str] = frozenset()
    standstill: Standstill | None = None
    notes: Mapping[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)


def next_step(
    state: ClusterState, health: Mapping[str, ShardHealth | None], now: float, memory: Memory | None = None
) -> Plan:
    """Return what to do now.

    Args:
        state: As of one revision of etcd.
        health: Shard -> its answer to the controller's own call; None, or nothing, if there was none within 1 s.
        now: A clock that never goes back, seconds.
        memory: From the last plan of this controller, made before ``state`` was read; None for the first.
    """
    memory = memory or Memory()
    told, memory = memory.epochs, replace(memory, epochs=epochs_told(memory.epochs, health))
    if reason := standstill(state, told, memory.epochs):
        return Plan(standstill=reason, memory=memory)
    if state.map is None:
        return Plan(map=next_map(state), memory=memory)
    sight = Sight(state, health, now, memory)
    if sight.active:
        # Before anybody is taken out: a shard that died just now keeps its place.
        memory = _with_target(sight, state.map, memory)
    failed_over = fail_over(sight, state.map.rows, memory.target)
    slot_map = with_rows(state.map, failed_over)
    notes = {
        "slots_failed_over": len(failed_over),
        "held_for_too_few_alive": len(sight.dead) if sight.held else 0,
        "shards_unreachable": len(sight.unreachable),
    }
    memory = _remembered(sight, memory, state.map, failed_over)
    due: dict[int, str] = {}
    if memory.target is not None:
        tidy = tidied(sight, slot_map.rows, memory.target)
        slot_map = with_rows(slot_map, tidy)
        slot_map = SlotMap(slot_map.rows, wishes(sight, slot_map.rows, slot_map.joining, memory.target))
        due = {} if sight.held else switches(sight, slot_map.rows, memory.target)
        notes |= {"slots_tidied": len(tidy), "switches_due": len(due)}
    return Plan(
        map=None if slot_map == state.map else slot_map,
        switches=due,
        held=sight.held,
        unreachable=frozenset(sight.unreachable),
        notes={name: count for name, count in notes.items() if count},
        memory=memory,
    )


def next_map(state: ClusterState) -> SlotMap | None:
    """Return the first map, or None if there is a map or there are too few shards for one."""
    if state.map is not None:
        return None
    active = {shard: member for shard, member in state.members.items() if member.wanted is Wanted.ACTIVE}
    present = {shard: member for shard, member in active.items() if shard in state.alive}
    if len(present) < state.config.first_shards:
        return None
    config = state.config
    copies, min_copies = config.copies_among(len(present)), config.min_copies_among(len(active))
    return first_map(config.shape.slots, present, copies, min_copies)


def _remembered(sight: Sight, memory: Memory, before: SlotMap, failed_over: Mapping[int, SlotRow]) -> Memory:
    replaced = {
        (slot, before.rows[slot].primary): sight.now
        for slot, row in failed_over.items()
        if row.primary != (old := before.rows[slot]).primary
        and (old.primary in sight.unreachable or sight.stuck(slot, old))
    }
    return replace(
        memory,
        few_since=sight.few_since,
        dead_since=sight.dead_since,
        copyless_since=sight.copyless_since,
        not_serving_since=sight.not_serving_since,
        silent_since=sight.silent_since,
        shunned_since={**sight.shunned_since, **replaced},
    )


def _with_target(sight: Sight, slot_map: SlotMap, memory: Memory) -> Memory:
    config = sight.state.config
    shards = tuple(sight.placeable())
    wanted = TargetFor(shards, config.copies_among(len(shards)), tuple(spread for _, spread in config.shape.spreads))
    if memory.target is not None and memory.target_for == wanted:
        return memory
    target = target_of(slot_map, wanted.shards, wanted.copies, wanted.spreads)
    return replace(memory, target_for=wanted, target=target)
