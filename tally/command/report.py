"""What ``tally status`` shows. Pure: what etcd and the shards say in, text out."""

import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from typing import Final

from tally.cluster.planning.progress import placed, progress
from tally.cluster.planning.standing import Told, gone_copies, missed_copies, serves, standing
from tally.cluster.planning.standstill import ahead_of
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.command.shards import Answers, Redundancy
from tally.command.slot_list import compressed, named_slots
from tally.command.tables import table

_NOT_A_MEMBER: Final = "none"


@dataclass(frozen=True, slots=True)
class ShardReport:
    """One shard.

    Attributes:
        id: Its name.
        address: ``host:port`` of its public service; None if the map names a shard that is no member.
        wanted: ``active`` or ``draining``, as the operator wishes; ``none`` if it is no member.
        alive: Whether a process holds its lease.
        slots: Of how many slots it is primary, as the map says.
        serving: How many of these it serves now, as it says itself; 0 if it does not answer.
        copies: How many slots it keeps in sync, as the map says.
        joining: How many it is getting a copy of.
        redundancy: How safe the slots are of which it is primary, as it says itself; None if it does not answer.
        disk_full: Whether its disk is so full that it takes no new copies; None if it does not answer.
        takes_no_events: Whether it takes no events either; None if it does not answer.
    """

    id: str
    address: str | None
    wanted: str
    alive: bool
    slots: int
    serving: int
    copies: int
    joining: int
    redundancy: Redundancy | None
    disk_full: bool | None
    takes_no_events: bool | None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The state of a cluster. ``tally status -o json`` prints these fields by name.

    Attributes:
        shards: By id.
        controller: The shard that decides at present; None while there is none.
        slots: How many slots there are.
        map: Whether the slots have been shared out.
        recovering: ``tally recover`` is at work, or broke off.
        map_outdated: Slots of which a copy knows a newer row than etcd has; all of them if etcd has no map, but shards
            have copies. Nothing is changed in the map, until it is recovered.
        slots_serving: How many slots are served by their primaries.
        all_serve: Whether all of them are.
        copies, min_copies: As the config wants them for each slot.
        copies_missing: How many copies the slots have less than wanted, over all; what is on shards that do not answer
            does not count.
        copies_silent: How many copies in sync are on shards that do not answer, or do not have them.
        moves: How many copies are joining now.
        copies_at_place, copies_to_be: How many copies are where they are to be, of how many; None if that is not known.
        not_writable: Slots that take no writes, for too few copies are in sync and on shards that answer.
        refusing: Reason -> slots that are served, but in which something is refused, or was just now.
        without_live_copy: Slots of whose in-sync copies none is on a shard that is alive and has it.
        etcd_alarms: Which stand in etcd, such as NOSPACE.
    """

    shards: tuple[ShardReport, ...]
    controller: str | None
    slots: int
    map: bool
    recovering: bool
    map_outdated: tuple[int, ...]
    slots_serving: int
    all_serve: bool
    copies: int
    min_copies: int
    copies_missing: int
    copies_silent: int
    moves: int
    copies_at_place: int | None
    copies_to_be: int | None
    not_writable: tuple[int, ...]
    without_live_copy: tuple[int, ...]
    etcd_alarms: tuple[str, ...]
    refusing: Mapping[str, tuple[int, ...]]

    @property
    def well(self) -> bool:
        """Whether each slot is served and takes writes, by a map that can be changed."""
        refusing = any(shard.slots and shard.takes_no_events for shard in self.shards)
        return self.all_serve and not (
            self.not_writable or self.refusing or refusing or self.recovering or self.map_outdated
        )


def status_report(state: ClusterState, answers: Answers, etcd_alarms: tuple[str, ...] = ()) -> StatusReport:
    """Sum up what etcd says, and what the shards say of themselves.

    Args:
        state: Who should serve what.
        answers: Of all members.
        etcd_alarms: As etcd names them.
    """
    told = {shard: answer.told if answer is not None else None for shard, answer in answers.items()}
    stands, served, gone = standing(state, told), _served(state, told), gone_copies(state.map, told)
    found, place = progress(state), placed(state, missed_copies(state.map, told))
    shards = []
    for shard, one in found.shards.items():
        member, answer = state.members.get(shard), answers.get(shard)
        shards.append(
            ShardReport(
                id=shard,
                address=member.address if member else None,
                wanted=member.wanted.value if member else _NOT_A_MEMBER,
                alive=one.alive,
                slots=one.primaries,
                serving=served[shard],
                copies=one.copies,
                joining=one.joining,
                redundancy=answer.redundancy if answer else None,
                disk_full=answer.disk_full if answer else None,
                takes_no_events=answer.takes_no_events if answer else None,
            )
        )
    return StatusReport(
        shards=tuple(shards),
        controller=state.controller.shard if state.controller else None,
        slots=stands.slots,
        map=state.map is not None,
        recovering=state.config.recovering,
        map_outdated=outdated(state.map, answers, stands.slots),
        slots_serving=stands.slots - len(stands.unserved),
        all_serve=not stands.unserved,
        copies=state.config.copies,
        min_copies=state.config.min_copies,
        copies_missing=stands.copies_missing,
        copies_silent=stands.copies_silent,
        moves=found.moves,
        copies_at_place=place.at_place if place else None,
        copies_to_be=place.to_be if place else None,
        not_writable=stands.few_copies,
        without_live_copy=_without_live_copy(state, gone),
        etcd_alarms=etcd_alarms,
        refusing=stands.refusing,
    )


def outdated(slot_map: SlotMap | None, answers: Answers, slots: int) -> tuple[int, ...]:
    """Return the slots whose rows are older than what copies know; the map was read after the answers came."""
    copies = [(slot, copy) for one in answers.values() if one is not None for slot, copy in one.copies.items()]
    if slot_map is None:
        return tuple(range(slots)) if any(copy.complete for _, copy in copies) else ()
    highest = dict(sorted((slot, copy.epoch) for slot, copy in copies))  # Of each slot the last one stays.
    return ahead_of(slot_map, highest)


def _without_live_copy(state: ClusterState, gone: Set[tuple[int, str]]) -> tuple[int, ...]:
    rows = state.map.rows if state.map is not None else ()
    return tuple(
        slot
        for slot, row in enumerate(rows)
        if not any(shard in state.alive and (slot, shard) not in gone for shard in row.in_sync)
    )


def _served(state: ClusterState, told: Mapping[str, Told | None]) -> Counter[str]:
    """Return how many slots each primary serves; in an epoch before that of the map does not count."""
    rows = state.map.rows if state.map else ()
    return Counter(row.primary for slot, row in enumerate(rows) if serves(told.get(row.primary), slot, row.epoch))


def render_json(report: StatusReport) -> str:
    """Show it to a program."""
    return json.dumps(asdict(report), indent=2)


def render_table(report: StatusReport) -> str:
    """Show it to a person."""
    headings = ("SHARD", "ADDRESS", "WANTED", "ALIVE", "SLOTS", "SERVING", "COPIES", "JOINING")
    rows = [
        (
            shard.id,
            shard.address or "-",
            shard.wanted,
            "yes" if shard.alive else "NO",
            str(shard.slots),
            str(shard.serving),
            str(shard.copies),
            str(shard.joining),
        )
        for shard in report.shards
    ]
    lines = [table(headings, rows), "", f"controller: {report.controller or 'none'}", *_to_recover(report)]
    if not report.map and report.map_outdated:
        return "\n".join(lines)
    if not report.map:
        lines.append(f"slots: {report.slots}, not shared out yet: too few shards so far")
        return "\n".join([*lines, *_alarms(report)])
    lines.append(f"slots: {report.slots_serving} of {report.slots} are served")
    in_need = (*_on_a_single_copy(report), *_in_need(report), *_refused(report), *_full_disks(report), *_alarms(report))
    return "\n".join([*lines, _copies(report), *in_need])


def _to_recover(report: StatusReport) -> list[str]:
    """Say that the map must be recovered, and how."""
    if report.recovering:
        return ["the map is being recovered, and nobody else changes it; if that broke off: run tally recover again"]
    if not report.map_outdated:
        return []
    if not report.map:
        return [
            "the map is gone from etcd, but shards have copies: it lost its data",
            "  what runs goes on, but nothing can be changed: tally recover --shards (how many there were)",
        ]
    return [
        f"etcd has an older map than the shards know, of {named_slots(report.map_outdated)}: it was restored",
        "  what runs goes on, but nothing can be changed: tally recover",
    ]


def _copies(report: StatusReport) -> str:
    """Say how far the copies are from where they are to be."""
    parts: list[str] = []
    if report.copies_at_place is not None and report.copies_to_be:
        parts.append(
            f"{report.copies_at_place} of {report.copies_to_be} are where they are to be "
            f"({report.copies_at_place * 100 // report.copies_to_be} %)"
        )
    if report.copies_missing or not parts:
        parts.append(f"{report.copies_missing or 'none'} missing")
    if report.copies_silent:
        parts.append(f"{report.copies_silent} on shards that are silent or lack them")
    if report.moves:
        parts.append(f"{report.moves} joining now")
    return f"copies: {', '.join(parts)}"


def _on_a_single_copy(report: StatusReport) -> list[str]:
    """Say for how long slots had one copy although more are wanted; nothing if none had."""
    seconds = {one.id: one.redundancy.single_copy_s for one in report.shards if one.redundancy is not None}
    worst = max(seconds, key=seconds.__getitem__, default="")
    if not worst or not seconds[worst]:
        return []
    whole = f"for {sum(seconds.values()):.1f} slot-seconds since the shards started"
    return [f"on a single copy: {whole}, most of it on {worst} ({seconds[worst]:.1f})"]


def _refused(report: StatusReport) -> list[str]:
    """Say in which slots something is refused although they are served; what is told in other words is left out."""
    told = {"few_copies", "disk_full"}
    return [
        f"refuse something, or did within 10 s ({reason}): {named_slots(slots)}"
        for reason, slots in report.refusing.items()
        if reason not in told
    ]


def _full_disks(report: StatusReport) -> list[str]:
    """Say whose disk is too full for what, and what can be done."""
    lines: list[str] = []
    for shard in report.shards:
        if shard.takes_no_events:
            lines.append(f"the disk of {shard.id} is full: the slots that it is primary of take no writes")
        elif shard.disk_full:
            lines.append(f"the disk of {shard.id} is nearly full: it takes no new copies")
    return (
        [*lines, "  give it more room; what moves to other shards is not freed there (README, Damage)"] if lines else []
    )


def _alarms(report: StatusReport) -> list[str]:
    """Say what is the matter with etcd, and what can be done."""
    lines: list[str] = []
    for alarm in report.etcd_alarms:
        if alarm == "NOSPACE":
            lines.append("etcd is full: reads and writes go on, but no shard can register and no slot can move")
            lines.append("  compact and defragment it, then: etcdctl alarm disarm")
        else:
            lines.append(f"etcd has the alarm {alarm}: see its handbook")
    return lines


def _in_need(report: StatusReport) -> list[str]:
    """Say which slots need somebody, and what can be done."""
    lines: list[str] = []
    lost = report.without_live_copy
    few = sorted(set(report.not_writable) - set(lost))
    if few:
        lines.append(f"take no writes, for too few copies are in sync: {named_slots(few)}")
        lines.append("  start the shards that are away, or add one; they write again when more copies have joined")
        if report.min_copies > 1:
            lines.append(f"  or let them write with one copy: tally config set copies {report.copies} --min-copies 1")
    if lost:
        lines.append(f"without a live copy: {named_slots(lost)}")
        lines.append("  start a shard that has them, and nothing is lost; only if their disks are gone for good:")
        lines.append(f"  tally give-up --slots {compressed(lost)} --accept-data-loss")
    return lines
