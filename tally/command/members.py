"""``tally members``: the shards that belong to the cluster, and taking one out for good."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click

from tally.cluster.etcd import Delete
from tally.cluster.planning.progress import progress
from tally.cluster.state import ClusterState
from tally.command.cluster import (
    Change,
    Refused,
    Seen,
    UnknownShard,
    cluster_options,
    dry_run_option,
    find_cluster,
    look_now,
    make_now,
    output_option,
)
from tally.command.streams import say
from tally.command.tables import table

_NOT_A_MEMBER: Final = "none"


@dataclass(frozen=True, slots=True)
class MemberReport:
    """One line of ``tally members``; ``-o json`` prints these fields by name.

    Attributes:
        id: Its name.
        address: ``host:port`` of its public service; None if it is no member, but the map names it.
        peer_address: ``host:port`` of its internal service; likewise.
        wanted: ``active``, ``draining``, or ``none`` if it is no member.
        alive: Whether a process holds its lease.
        slots: Of how many slots it is primary.
        copies: How many slots it keeps.
        joining: How many it is getting a copy of.
        drained: It may be switched off and removed.
    """

    id: str
    address: str | None
    peer_address: str | None
    wanted: str
    alive: bool
    slots: int
    copies: int
    joining: int
    drained: bool


@click.group(invoke_without_command=True)
@cluster_options
@output_option
@click.pass_context
def members(context: click.Context, /, etcd: str | None, cluster: str | None, output: str, **access: Any) -> None:
    """List the shards that belong to the cluster, running or not; or remove one.

    WANTED is what you want of it: active, or draining after `tally drain`. ALIVE says that its process holds its
    lease. SLOTS are those that it is primary of, COPIES all that it keeps. A shard becomes a member by itself when it
    is started for the first time; it stays one until it is removed.

    \b
    JSON: {"members": [{"id": "s1", "address": "10.0.0.1:9101", "peer_address": "10.0.0.1:9201", "wanted": "active",
           "alive": true, "slots": 86, "copies": 171, "joining": 0, "drained": false}, ...]}

    \b
    Examples:
      tally members
      tally members --etcd 10.0.0.1:2379 --output json
      tally members remove s3

    Exit status: 0 listed, 1 etcd does not answer or there is no such cluster, 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    if context.invoked_subcommand is not None:
        return
    state = look_now(find_cluster(etcd, cluster, access)).state
    found = member_reports(state)
    say(json.dumps({"members": [asdict(one) for one in found]}, indent=2) if output == "json" else render(found))
    for key, reason in state.unreadable.items():
        click.echo(f"{key} can't be read: {reason}", err=True)


@members.command()
@click.argument("shard", metavar="ID")
@cluster_options
@dry_run_option
def remove(shard: str, etcd: str | None, cluster: str | None, *, dry_run: bool, **access: Any) -> None:
    """Take shard ID, which is switched off and keeps nothing, out of the cluster for good.

    It is refused while its process is alive, and while the map says that it keeps or is to get any copy: then the
    error says which command to run first. A shard that is started again after it was removed becomes a new member.

    \b
    To take a shard out:
      tally drain s3 --wait
      (switch s3 off)
      tally members remove s3

    Exit status: 0 removed (or would be), 1 refused, no such member, or etcd does not answer, 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = find_cluster(etcd, cluster, access)
    change = make_now(where, lambda seen: removal(seen, shard), dry_run=dry_run)
    say(f"would be done: {change.text}" if dry_run else change.text)


def removal(seen: Seen, shard: str) -> Change:
    """Decide to remove a member. Pure.

    Raises:
        UnknownShard: There is no such member.
        Refused: It is alive, or has or gets a copy.
    """
    keys, state = seen.keys, seen.state
    if keys.member(shard) not in seen.revisions:
        raise UnknownShard(shard, tuple(state.members))
    if reason := _needed(state, shard):
        raise Refused(reason)
    # The alive key too: it must not have been started in between.
    guards = (keys.member(shard), keys.map, keys.alive_of(shard))
    return Change(f"{shard} is no member any more", guards, (Delete(keys.member(shard)),))


def _needed(state: ClusterState, shard: str) -> str:
    """Return why a member can't be removed; empty if it can."""
    found = progress(state).shards.get(shard)
    kept, due = (found.copies, found.joining) if found else (0, 0)
    if kept or due:
        has = " and ".join([*([f"keeps {kept}"] if kept else []), *([f"is to get {due}"] if due else [])])
        return f"{shard} {has} {'copy' if kept + due == 1 else 'copies'}; first: tally drain {shard} --wait"
    if shard not in state.alive:
        return ""
    if found and found.drained:
        return f"{shard} keeps nothing, but is alive; switch it off first"
    return f"{shard} is alive; first: tally drain {shard} --wait, then switch it off"


def member_reports(state: ClusterState) -> tuple[MemberReport, ...]:
    """Return the members by id, and whoever else the map names. Pure."""
    return tuple(
        MemberReport(
            id=shard,
            address=member.address if (member := state.members.get(shard)) else None,
            peer_address=member.peer_address if member else None,
            wanted=member.wanted.value if member else _NOT_A_MEMBER,
            alive=one.alive,
            slots=one.primaries,
            copies=one.copies,
            joining=one.joining,
            drained=one.drained and shard in state.members,
        )
        for shard, one in progress(state).shards.items()
    )


def render(found: Sequence[MemberReport]) -> str:
    """Show it to a person. Pure."""
    headings = ("SHARD", "ADDRESS", "WANTED", "ALIVE", "SLOTS", "COPIES", "JOINING")
    rows = [
        (
            one.id,
            one.address or "-",
            one.wanted,
            "yes" if one.alive else "NO",
            str(one.slots),
            str(one.copies),
            str(one.joining),
        )
        for one in found
    ]
    drained = [
        f"{one.id} is drained: {'switch it off; then' if one.alive else 'it can go'}: tally members remove {one.id}"
        for one in found
        if one.drained
    ]
    return "\n".join([table(headings, rows), *([""] if drained else []), *drained])
