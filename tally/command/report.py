"""What ``tally status`` shows. Pure: what etcd says in, text out."""

import json
from dataclasses import asdict, dataclass
from typing import Final

from tally.cluster.state import ClusterState
from tally.command.tables import table

_NOT_A_MEMBER: Final = "none"


@dataclass(frozen=True, slots=True)
class ShardReport:
    """One shard.

    Attributes:
        id: Its name.
        address: ``host:port`` of its gRPC server; None if the map names a shard that is no member.
        wanted: ``active`` or ``draining``, as the operator wishes; ``none`` if it is no member.
        alive: Whether a process holds its lease.
        slots: Of how many slots it is primary.
    """

    id: str
    address: str | None
    wanted: str
    alive: bool
    slots: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The state of a cluster, as of one revision of etcd. ``tally status -o json`` prints these fields by name.

    Attributes:
        shards: By id.
        controller: The shard that decides at present; None while there is none.
        slots: How many slots there are.
        map: Whether the slots have been shared out.
        slots_serving: How many slots have a primary that is alive.
        all_serve: Whether all of them have.
    """

    shards: tuple[ShardReport, ...]
    controller: str | None
    slots: int
    map: bool
    slots_serving: int
    all_serve: bool


def status_report(state: ClusterState) -> StatusReport:
    """Sum up what etcd says."""
    owned = state.map.slots_per_primary() if state.map else {}
    shards = []
    for shard in sorted({*state.members, *owned}):
        member = state.members.get(shard)
        shards.append(
            ShardReport(
                id=shard,
                address=member.address if member else None,
                wanted=member.wanted.value if member else _NOT_A_MEMBER,
                alive=shard in state.alive,
                slots=owned.get(shard, 0),
            )
        )
    slots = state.config.shape.slots
    serving = sum(shard.slots for shard in shards if shard.alive)
    return StatusReport(
        shards=tuple(shards),
        controller=state.controller.shard if state.controller else None,
        slots=slots,
        map=state.map is not None,
        slots_serving=serving,
        all_serve=serving == slots,
    )


def render_json(report: StatusReport) -> str:
    """Show it to a program."""
    return json.dumps(asdict(report), indent=2)


def render_table(report: StatusReport) -> str:
    """Show it to a person."""
    headings = ("SHARD", "ADDRESS", "WANTED", "ALIVE", "SLOTS")
    rows = [
        (shard.id, shard.address or "-", shard.wanted, "yes" if shard.alive else "NO", str(shard.slots))
        for shard in report.shards
    ]
    if report.map:
        slots = f"{report.slots_serving} of {report.slots} have a primary that is alive"
    else:
        slots = f"{report.slots}, not shared out yet: too few shards so far"
    return f"{table(headings, rows)}\n\ncontroller: {report.controller or 'none'}\nslots: {slots}"
