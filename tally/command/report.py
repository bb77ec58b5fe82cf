"""What ``tally status`` shows. Pure: what etcd and the shards say in, text out."""

import json
from collections import Counter
from collections.abc import Mapping
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
        slots: Of how many slots it is primary, as the map says.
        serving: How many of these it serves now, as it says itself; 0 if it does not answer.
    """

    id: str
    address: str | None
    wanted: str
    alive: bool
    slots: int
    serving: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The state of a cluster. ``tally status -o json`` prints these fields by name.

    Attributes:
        shards: By id.
        controller: The shard that decides at present; None while there is none.
        slots: How many slots there are.
        map: Whether the slots have been shared out.
        slots_serving: How many slots are served by their primaries.
        all_serve: Whether all of them are.
    """

    shards: tuple[ShardReport, ...]
    controller: str | None
    slots: int
    map: bool
    slots_serving: int
    all_serve: bool


def status_report(state: ClusterState, serving: Mapping[str, Mapping[int, int] | None]) -> StatusReport:
    """Sum up what etcd says, and what the shards say of themselves.

    Args:
        state: Who should serve what.
        serving: Shard -> slot -> epoch in which it serves it; None if it does not answer.
    """
    owned = state.map.slots_per_primary() if state.map else {}
    served = _served(state, serving)
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
                serving=served[shard],
            )
        )
    slots = state.config.shape.slots
    return StatusReport(
        shards=tuple(shards),
        controller=state.controller.shard if state.controller else None,
        slots=slots,
        map=state.map is not None,
        slots_serving=served.total(),
        all_serve=served.total() == slots,
    )


def _served(state: ClusterState, serving: Mapping[str, Mapping[int, int] | None]) -> Counter[str]:
    """Return how many slots each primary serves; in an epoch before that of the map does not count."""
    rows = state.map.rows if state.map else ()
    return Counter(
        row.primary for slot, row in enumerate(rows) if (serving.get(row.primary) or {}).get(slot, 0) >= row.epoch
    )


def render_json(report: StatusReport) -> str:
    """Show it to a program."""
    return json.dumps(asdict(report), indent=2)


def render_table(report: StatusReport) -> str:
    """Show it to a person."""
    headings = ("SHARD", "ADDRESS", "WANTED", "ALIVE", "SLOTS", "SERVING")
    rows = [
        (
            shard.id,
            shard.address or "-",
            shard.wanted,
            "yes" if shard.alive else "NO",
            str(shard.slots),
            str(shard.serving),
        )
        for shard in report.shards
    ]
    if report.map:
        slots = f"{report.slots_serving} of {report.slots} are served"
    else:
        slots = f"{report.slots}, not shared out yet: too few shards so far"
    return f"{table(headings, rows)}\n\ncontroller: {report.controller or 'none'}\nslots: {slots}"
