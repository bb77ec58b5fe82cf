"""When nothing at all may be changed in the map: it may not be the newest that there was. Pure.

A copy stores the epochs of rows that etcd had. So a copy that has stored a higher epoch than its row has now knows that
etcd was restored from an older snapshot, or that its data were lost: the set of an older row may lack what was
acknowledged since, and a change made from it may be a second one of the same epoch.

| etcd has | a copy of a slot has stored | the controller |
|---|---|---|
| ``recovering`` in the config | | changes nothing: ``tally recover`` writes the map |
| an older map than the one held here, or none any more | | changes nothing |
| no map | anything, told before that was read | makes no first map |
| a row | a higher epoch, told before the map was read | changes nothing in any row |
| either | the same, told perhaps after it was read | reads again first |

What copies told is remembered for as long as the controller is elected: a shard that told it may die. What nobody who
answers knows can't be found out: shards that were away since the snapshot was taken know nothing newer.
"""

from collections.abc import Mapping
from enum import Enum

from tally.cluster.planning.health import ShardHealth
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState


class Standstill(Enum):
    """Why nothing is changed; the value is told to those who ask for a change."""

    NOT_PLANNED = "it is not known yet how many shards live"
    UNSURE = "a copy has seen a newer row than the map had when it was read"
    RECOVERING = "tally recover is at work, or broke off: run it again"
    MAP_IS_GONE = "the map is gone from etcd, but shards have copies: run tally recover"
    MAP_OLDER_THAN_COPIES = "the map in etcd is older than what shards have: run tally recover"


def epochs_told(before: Mapping[int, int], health: Mapping[str, ShardHealth | None]) -> dict[int, int]:
    """Return slot -> the highest epoch that a copy of it has stored, as told before or now."""
    highest = dict(before)
    for answer in health.values():
        for slot, copy in (answer.copies if answer is not None else {}).items():
            highest[slot] = max(copy.epoch, highest.get(slot, 0))
    return highest


def ahead_of(slot_map: SlotMap, epochs: Mapping[int, int]) -> tuple[int, ...]:
    """Return the slots of which a copy has stored a higher epoch than the row has."""
    return tuple(slot for slot, row in enumerate(slot_map.rows) if epochs.get(slot, 0) > row.epoch)


def by_etcd(state: ClusterState) -> Standstill | None:
    """Return why nothing may be changed, by what etcd says alone."""
    if state.config.recovering:
        return Standstill.RECOVERING
    return Standstill.MAP_OLDER_THAN_COPIES if state.rolled_back else None


def standstill(state: ClusterState, told: Mapping[int, int], now: Mapping[int, int]) -> Standstill | None:
    """Return why nothing may be changed; None if nothing speaks against it.

    Args:
        state: What etcd says, or said last of a map.
        told: Slot -> epoch, as copies told before etcd was read.
        now: The same with what they told since; they may go by a row that is newer than ``state``.
    """
    reason = by_etcd(state)
    if reason is not None:
        return reason
    if state.map is None:
        return Standstill.MAP_IS_GONE if told else Standstill.UNSURE if now else None
    if ahead_of(state.map, told):
        return Standstill.MAP_OLDER_THAN_COPIES
    return Standstill.UNSURE if ahead_of(state.map, now) else None
