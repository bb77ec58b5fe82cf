"""What the controller writes next: a pure function of what it knows. The real planner can stand in its place.

| slot | change of its row |
|---|---|
| its primary asks for one, in the row's epoch (rule 11) | that one |
| its primary is dead, has no copy, or does not serve | promote a live member with a valid copy |
| a backup is dead or has no copy, and the primary serves | remove it |
| more copies than wanted, nobody joins | remove a backup |
| fewer copies than wanted, or a move is wanted | wish for a live shard to join; the row stays |
"""

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

from tally.cluster.rows import Change
from tally.cluster.slot_map import SlotMap, SlotRow


class SlotHealth(NamedTuple):
    """What a shard says of its copy of a slot.

    Attributes:
        incarnation: Of its copy, if that is complete, else "".
        epoch: Of the row that it knows: what it says of its copy may be older than a newer row.
    """

    incarnation: str
    epoch: int
    serves: bool


Health = tuple[SlotHealth, ...]
"""Of each slot, in order."""


class Request(NamedTuple):
    """What a primary asks for."""

    slot: int
    change: Change
    epoch: int
    shard: str
    incarnation: str


class View(NamedTuple):
    """What the controller knows.

    Attributes:
        alive: Shards with an alive key.
        health: What shards answered to its own health call lately.
        stuck: Slots that nobody served for long.
        moves: Slots of which a copy is to move.
    """

    map: SlotMap
    alive: Collection[str]
    health: Mapping[str, Health]
    requests: Sequence[Request]
    stuck: Collection[int]
    moves: Collection[int]
    copies: int
    min_copies: int


class Plan(NamedTuple):
    """The map to write, and a word for each change of a row."""

    map: SlotMap
    changes: tuple[str, ...]


def plan(view: View, random: Random) -> Plan | None:
    """Return what to write, or None if all may stay."""
    rows = list(view.map.rows)
    joining: dict[int, tuple[str, ...]] = {}
    changes: list[str] = []
    for slot, row in enumerate(view.map.rows):
        change = _asked_for(view, slot, row) or _needed(view, slot, row, random)
        if change is not None:
            changes.append(change[0])
            rows[slot] = change[1]
        wishes = _wishes(view, slot, rows[slot], random)
        if wishes:
            joining[slot] = wishes
    if not changes and joining == dict(view.map.joining):
        return None
    return Plan(SlotMap(tuple(rows), joining), tuple(changes))


def _asked_for(view: View, slot: int, row: SlotRow) -> tuple[str, SlotRow] | None:
    for request in view.requests:
        if request.slot == slot and request.epoch == row.epoch:
            new = requested(row, request, view.min_copies)
            if new is not None:
                return new
    return None


def _needed(view: View, slot: int, row: SlotRow, random: Random) -> tuple[str, SlotRow] | None:
    primary_lives = _lives(view, row.primary)
    if not primary_lives or slot in view.stuck or _lacks_copy(view, slot, row, row.primary):
        others = promotable(view, slot, row)
        if others:
            shard = random.choice(sorted(others))
            return "promotions", SlotRow(row.epoch + 1, shard, {**row.in_sync, shard: others[shard]}, row.min_copies)
        return None
    if not _serves(view, slot, row):
        return None  # Perhaps its copy is gone, and a backup that looks dead has the only one.
    backups = [shard for shard in row.in_sync if shard != row.primary]
    for shard in backups:
        if not _lives(view, shard) or _lacks_copy(view, slot, row, shard):
            return "removals", _without(row, shard)
    if len(row.in_sync) > view.copies and not view.map.joining.get(slot):
        return "removals", _without(row, random.choice(backups))
    return None


def requested(row: SlotRow, request: Request, min_copies: int) -> tuple[str, SlotRow] | None:
    """Return the row after what its primary asks for, if it may be had."""
    shard, incarnation = request.shard, request.incarnation
    member = row.in_sync.get(shard) == incarnation
    match request.change:
        case Change.ADD if shard not in row.in_sync:
            copies = {**row.in_sync, shard: incarnation}
            needed = max(row.min_copies, min(min_copies, len(copies)))
            return "additions", SlotRow(row.epoch + 1, row.primary, copies, needed)
        case Change.REMOVE if member and shard != row.primary:
            return "removals", _without(row, shard)
        case Change.PROMOTE if member:
            return "switches", SlotRow(row.epoch + 1, shard, row.in_sync, row.min_copies)
        case Change.TERM:
            return "new terms", SlotRow(row.epoch + 1, row.primary, row.in_sync, row.min_copies)
    return None


def promotable(view: View, slot: int, row: SlotRow) -> dict[str, str]:
    """Return the live members with a valid copy, besides the primary, and the incarnations of their copies."""
    return {
        shard: incarnation
        for shard, incarnation in row.in_sync.items()
        if shard != row.primary and shard in view.health and view.health[shard][slot].incarnation == incarnation
    }


def _without(row: SlotRow, shard: str) -> SlotRow:
    left = {member: incarnation for member, incarnation in row.in_sync.items() if member != shard}
    return SlotRow(row.epoch + 1, row.primary, left, row.min_copies)


def _lives(view: View, shard: str) -> bool:
    return shard in view.alive or shard in view.health


def _lacks_copy(view: View, slot: int, row: SlotRow, shard: str) -> bool:
    """Tell whether a member says, and knows the row, that it has no valid copy."""
    health = view.health[shard][slot] if shard in view.health else None
    return health is not None and health.epoch == row.epoch and health.incarnation != row.in_sync[shard]


def _serves(view: View, slot: int, row: SlotRow) -> bool:
    health = view.health[row.primary][slot] if row.primary in view.health else None
    return health is not None and health.epoch == row.epoch and health.serves


def _wishes(view: View, slot: int, row: SlotRow, random: Random) -> tuple[str, ...]:
    wishes = tuple(
        shard for shard in view.map.joining.get(slot, ()) if shard not in row.in_sync and shard in view.health
    )
    wanted = view.copies + (slot in view.moves)
    if wishes or len(row.in_sync) >= wanted:
        return wishes if len(row.in_sync) <= view.copies else ()
    others = sorted(shard for shard in view.health if shard not in row.in_sync)
    return (random.choice(others),) if others else ()
