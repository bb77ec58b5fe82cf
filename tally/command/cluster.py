"""The cluster that an operator's command is about: which one it is, what etcd says of it, and a change of that.

A command decides in a pure function of ``Seen`` what is to change. ``make`` writes it only if nothing that it was
decided by has changed in between, and decides again if something has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from tally.cluster.etcd import Delete, Etcd, ModRevision, Put
from tally.cluster.keys import Keys
from tally.cluster.state import ClusterState
from tally.command.machine.remembered import FILE_NAME, Remembered
from tally.command.options import Named, etcd_options, named, option, together
from tally.errors import TallyError

_DATA_OF_UP: Final = Path("data")  # Where `tally up` keeps its data, unless told otherwise.
_ATTEMPTS: Final = 10
_PAUSE_S: Final = 0.1

cluster_options = together(
    etcd_options("The etcd of the cluster. Without it: that of `tally up` with its data in ./data."),
    option("--cluster", metavar="NAME", help="Without it: the one of `tally up` as above, else default."),
)
output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


class KeepsChanging(TallyError):
    """Each time, something was changed by others between reading and writing. Nothing was changed by us."""

    def __str__(self) -> str:
        return f"the cluster changed {_ATTEMPTS} times while this was decided; nothing was done: run it again"


class UnknownShard(TallyError):
    """There is no such member; nothing was changed."""

    def __init__(self, shard: str, members: tuple[str, ...]) -> None:
        super().__init__(shard, members)
        self.shard = shard
        self.members = members

    def __str__(self) -> str:
        return f"{self.shard!r} is no member of the cluster; members are: {', '.join(self.members) or 'none yet'}"


class Refused(TallyError):
    """What was asked for would do harm; nothing was changed. The text says what to do instead."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Seen(NamedTuple):
    """What etcd says, all as of one revision.

    Attributes:
        keys: The names of the cluster's keys.
        state: What stands there.
        revisions: Key -> mod_revision, for each key that there is.
    """

    keys: Keys
    state: ClusterState
    revisions: Mapping[str, int]


class Change(NamedTuple):
    """What a command decided.

    Attributes:
        text: What it does, for a person.
        guards: The keys that it was decided by; those that are not there must stay away.
        then: What to write; nothing if all is as it should be.
    """

    text: str
    guards: tuple[str, ...] = ()
    then: tuple[Put | Delete, ...] = ()


def find_cluster(etcd: str | None, cluster: str | None, access: Mapping[str, Any]) -> Named:
    """Return the cluster that ``cluster_options`` name; those of a group count for its subcommands too.

    Raises:
        click.UsageError: None is named, and none was left here by `tally up`.
        ConfigError: One of the options can't be used.
    """
    context = click.get_current_context(silent=True)
    outer = context.parent.params if context and context.parent else {}
    given = {name: outer.get(name) if value is None else value for name, value in access.items()}
    etcd, cluster = etcd or outer.get("etcd"), cluster or outer.get("cluster")
    if etcd:
        return named(etcd, cluster or "default", given)
    left = Remembered.load(_DATA_OF_UP / FILE_NAME)
    if left is None:
        raise click.UsageError("say which etcd with --etcd host:port or TALLY_ETCD; there is no ./data of `tally up`")
    return named(left.etcd, cluster or left.cluster, given)


async def look(etcd: Etcd, keys: Keys) -> Seen:
    """Read all that etcd says of the cluster.

    Raises:
        ClusterMissing: There is none of that name.
        BadClusterData: Something in it can't be read.
    """
    found = (await etcd.read_prefix(keys.prefix)).found
    return Seen(keys, ClusterState.from_etcd(keys, found), {one.key: one.mod_revision for one in found})


async def make(
    etcd: Etcd,
    keys: Keys,
    decide: Callable[[Seen], Awaitable[Change]],
    *,
    read: Callable[[Etcd, Keys], Awaitable[Seen]] = look,
    dry_run: bool = False,
) -> Change:
    """Decide, and write what was decided in one transaction; decide again when something changed in between.

    Args:
        etcd: Where to write.
        keys: Of the cluster.
        decide: Decides on what ``read`` gave.
        read: Reads what there is.
        dry_run: Write nothing.

    Raises:
        KeepsChanging: It did so each time.
        EtcdUnavailable: No answer; it may have been done. All commands can be run again.
    """
    for _ in range(_ATTEMPTS):
        seen = await read(etcd, keys)
        change = await decide(seen)
        if dry_run or not change.then:
            return change
        guards = [ModRevision(key, seen.revisions.get(key, 0)) for key in sorted(set(change.guards))]
        if (await etcd.commit(guards, change.then)).ok:
            return change
        await asyncio.sleep(_PAUSE_S)
    raise KeepsChanging


def make_now(where: Named, decide: Callable[[Seen], Change], *, dry_run: bool = False) -> Change:
    """Do the same with a decision that waits for nothing, from code that is not async."""

    async def decided(seen: Seen) -> Change:
        return decide(seen)

    async def connected() -> Change:
        async with where.connect() as etcd:
            return await make(etcd, where.keys, decided, dry_run=dry_run)

    return asyncio.run(connected())


def look_now(where: Named) -> Seen:
    """Read all that etcd says, from code that is not async."""

    async def connected() -> Seen:
        async with where.connect() as etcd:
            return await look(etcd, where.keys)

    return asyncio.run(connected())
