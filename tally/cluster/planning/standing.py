"""How the whole cluster stands: slots served, copies that are there. Status and all monitors go by this. Pure.

What the map says is not enough: a copy on a shard that died stays in it for a while, and for as long as most shards are
dead. So each shard is asked; one that is silent serves nothing and has nothing, for whoever could use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState

_NO_WRITES: Final = frozenset({"disk_full", "few_copies"})
"""Reasons for which a shard refuses all events of a slot (see ``shard/engine/refusals.py``)."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a shard says of itself.

    Attributes:
        serving: Slot -> epoch in which it serves it as primary.
        refusing: Slots that it serves, but in which it refuses something -> why, in a word.
        copies: Slot -> incarnation of the complete copy that is there.
        map_epochs: By slot, the epochs of the newest map that it knows; empty without one.
    """

    serving: Mapping[int, int] = field(default_factory=dict)
    refusing: Mapping[int, str] = field(default_factory=dict)
    copies: Mapping[int, str] = field(default_factory=dict)
    map_epochs: Sequence[int] = ()


class ShardCopy(NamedTuple):
    """The copy of a slot that a shard has by the map."""

    slot: int
    shard: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The cluster. Slots are listed in order.

    Attributes:
        slots: How many there are.
        unserved: Those that no primary serves: their requests wait, and are answered 503. All, without a map.
        few_copies: Those that take no writes because fewer copies are in sync, and there, than ``min_copies``.
        unwritable: Those that take no events for whatever reason: these, and those whose primary refuses all.
        refusing: Reason -> slots that are served, but in which something is refused, or was just now.
        copies_wanted: How many copies the slots are to have, over all.
        copies_live: How many of those in sync are on shards that answer and have them.
        copies_missing: How many live ones the slots have less than wanted, over all.
        copies_silent: How many of those in sync are not live.
    """

    slots: int
    unserved: tuple[int, ...]
    few_copies: tuple[int, ...]
    unwritable: tuple[int, ...]
    refusing: Mapping[str, tuple[int, ...]]
    copies_wanted: int
    copies_live: int
    copies_missing: int
    copies_silent: int


def standing(state: ClusterState, told: Mapping[str, Told | None]) -> Standing:
    """Compare what is to be with what is there.

    Args:
        state: Who is to serve and to keep what.
        told: What each shard said just now; None, or nothing, for one that did not answer.

    Cost: one look at each copy in the map.
    """
    slots = state.config.shape.slots
    active = sum(member.wanted is Wanted.ACTIVE for member in state.members.values())
    wanted = state.config.copies_among(active)
    every = tuple(range(slots))
    if state.map is None:
        return Standing(slots, every, (), every, {}, wanted * slots, 0, wanted * slots, 0)
    missed = missed_copies(state.map, told)
    unserved, few, live, missing, in_sync = [], [], 0, 0, 0
    for slot, row in enumerate(state.map.rows):
        there = sum((slot, shard) not in missed for shard in row.in_sync)
        live += there
        in_sync += len(row.in_sync)
        missing += max(0, wanted - there)
        if not serves(told.get(row.primary), slot, row.epoch):
            unserved.append(slot)
        if there < row.min_copies:
            few.append(slot)
    refusing = refusals(told)
    refused = {slot for reason in _NO_WRITES for slot in refusing.get(reason, ())}
    return Standing(
        slots=slots,
        unserved=tuple(unserved),
        few_copies=tuple(few),
        unwritable=tuple(sorted({*unserved, *few, *refused})),
        refusing=refusing,
        copies_wanted=wanted * slots,
        copies_live=live,
        copies_missing=missing,
        copies_silent=in_sync - live,
    )


def serves(told: Told | None, slot: int, epoch: int) -> bool:
    """Whether a shard serves a slot, in the epoch of the map or a later one that the map here does not know yet."""
    return told is not None and told.serving.get(slot, 0) >= epoch


def gone_copies(slot_map: SlotMap | None, told: Mapping[str, Told | None]) -> set[ShardCopy]:
    """Return copies that the map names, but that their shards do not have: a directory was deleted.

    Only of shards that know the very row: to others it may say something new.
    """
    gone = set()
    for slot, row in enumerate(slot_map.rows if slot_map is not None else ()):
        for shard, incarnation in row.in_sync.items():
            one = told.get(shard)
            if one is None or list(one.map_epochs[slot : slot + 1]) != [row.epoch]:
                continue
            if one.copies.get(slot) != incarnation:
                gone.add(ShardCopy(slot, shard))
    return gone


def missed_copies(slot_map: SlotMap | None, told: Mapping[str, Told | None]) -> set[ShardCopy]:
    """Return copies that the map names, but that are gone, or on shards that do not answer."""
    rows = slot_map.rows if slot_map is not None else ()
    silent = {
        ShardCopy(slot, shard) for slot, row in enumerate(rows) for shard in row.in_sync if told.get(shard) is None
    }
    return silent | gone_copies(slot_map, told)


def refusals(told: Mapping[str, Told | None]) -> dict[str, tuple[int, ...]]:
    """Return reason -> slots in which something is refused, both in order."""
    found: dict[str, set[int]] = {}
    for one in told.values():
        for slot, reason in one.refusing.items() if one is not None else ():
            found.setdefault(reason, set()).add(slot)
    return {reason: tuple(sorted(slots)) for reason, slots in sorted(found.items())}
