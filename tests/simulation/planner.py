"""What the controller writes next: a pure function of what it knows. The real planner can stand in its place.

| slot | change of its row |
|---|---|
| its primary asks for one, in the row's epoch (rule 11) | that one; of a doubted one, what a look at the member shows |
| its primary is dead, has no copy, or does not serve | promote a live member with a valid copy, the highest head |
| a backup is dead or has no copy, and the primary serves | remove it |
| more copies than wanted, nobody joins | remove a backup |
| fewer copies than wanted, or a move is wanted | wish for a live shard to join; the row stays |
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from tally.cluster import rows
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.planning import doubt
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.rows import Change, IllegalChange, Request
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
    head: OpName = NOTHING


Health = tuple[SlotHealth, ...]
"""Of each slot, in order."""


class View(NamedTuple):
    """What the controller knows.

    Attributes:
        alive: Shards with an alive key.
        health: What shards answered to its own health call lately.
        unreachable: Who has answered none for long.
        requests: What primaries ask for.
        looks: Doubted request -> what the member answered to a call begun after it came; None: nothing.
        stuck: Slots that nobody served for long.
        moves: Slots of which a copy is to move.
    """

    map: SlotMap
    alive: Collection[str]
    health: Mapping[str, Health]
    unreachable: Collection[str]
    requests: Sequence[Request]
    looks: Mapping[Request, Health | None]
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
    after = list(view.map.rows)
    joining: dict[int, tuple[str, ...]] = {}
    changes: list[str] = []
    for slot, row in enumerate(view.map.rows):
        change = _asked_for(view, slot, row) or _needed(view, slot, row, random)
        if change is not None:
            changes.append(change[0])
            after[slot] = change[1]
        wishes = _wishes(view, slot, after[slot], random)
        if wishes:
            joining[slot] = wishes
    if not changes and joining == dict(view.map.joining):
        return None
    return Plan(SlotMap(tuple(after), joining), tuple(changes))


def _asked_for(view: View, slot: int, row: SlotRow) -> tuple[str, SlotRow] | None:
    for request in view.requests:
        if request.slot == slot and request.epoch == row.epoch:
            change = request.change if request.head is None else judged(view, request)
            new = requested(row, request._replace(change=change), view.min_copies) if change is not None else None
            if new is not None:
                return new
    return None


def judged(view: View, request: Request) -> Change | None:
    """Return what is done with a member whose removal is asked for by a primary that is doubted; None: nothing."""
    told = view.looks[request]
    look = None
    if told is not None:
        copy = told[request.slot]
        health = CopyHealth(copy.incarnation, bool(copy.incarnation), copy.epoch, copy.serves, copy.head)
        look = ShardHealth({request.slot: health})
    checked = doubt.judged(request, look, alive=view.alive, unreachable=view.unreachable)
    return checked.change if isinstance(checked, Request) else None


def _needed(view: View, slot: int, row: SlotRow, random: Random) -> tuple[str, SlotRow] | None:
    primary_lives = _lives(view, row.primary)
    if not primary_lives or slot in view.stuck or _lacks_copy(view, slot, row, row.primary):
        others = promotable(view, slot, row)
        if others:
            chosen = successor(view, slot, others, random)
            in_sync = {**row.in_sync, chosen: others[chosen]}
            return "promotions", replace(row, epoch=row.epoch + 1, primary=chosen, in_sync=in_sync)
        return None
    if not _serves(view, slot, row):
        return None  # Perhaps its copy is gone, and a backup that looks dead has the only one.
    backups = [shard for shard in row.in_sync if shard != row.primary]
    for shard in backups:
        if not _lives(view, shard) or _lacks_copy(view, slot, row, shard):
            return "removals", rows.remove(row, shard)
    if len(row.in_sync) > view.copies and not view.map.joining.get(slot):
        return "removals", rows.remove(row, random.choice(backups))
    return None


def requested(row: SlotRow, request: Request, min_copies: int) -> tuple[str, SlotRow] | None:
    """Return the row after what its primary asks for, if it may be had."""
    shard, incarnation = request.shard, request.incarnation
    if request.change in {Change.REMOVE, Change.PROMOTE} and row.in_sync.get(shard) != incarnation:
        return None
    try:
        match request.change:
            case Change.ADD:
                return "additions", rows.add(row, shard, incarnation, min_copies)
            case Change.REMOVE:
                return "removals", rows.remove(row, shard)
            case Change.PROMOTE:
                return "switches", rows.promote(row, shard)
            case Change.TERM:
                return "new terms", rows.new_term(row)
    except IllegalChange:
        return None


def successor(view: View, slot: int, others: Mapping[str, str], random: Random) -> str:
    """Return who had best be promoted: an alive key first, then the highest head; chance decides between equals."""
    shards = random.sample(sorted(others), len(others))
    return max(shards, key=lambda shard: (shard in view.alive, view.health[shard][slot].head.order))


def promotable(view: View, slot: int, row: SlotRow) -> dict[str, str]:
    """Return the live members with a valid copy, besides the primary, and the incarnations of their copies."""
    return {
        shard: incarnation
        for shard, incarnation in row.in_sync.items()
        if shard != row.primary and shard in view.health and view.health[shard][slot].incarnation == incarnation
    }


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
