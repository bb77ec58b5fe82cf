"""``tally config``: what all processes of a cluster agree on, and changing the part of it that may change."""

import json
from typing import Any, Final

import click

from tally.cluster.config import ClusterConfig
from tally.cluster.etcd import Put
from tally.cluster.members import Wanted
from tally.cluster.state import ClusterState
from tally.command.cluster import (
    Change,
    Seen,
    cluster_options,
    dry_run_option,
    find_cluster,
    look_now,
    make_now,
    output_option,
)
from tally.command.streams import say
from tally.command.tables import table
from tally.errors import ConfigError

_FIXED: Final = {
    "slots": "each event is found through its slot number, so all that was counted would be looked for elsewhere",
    "spread": "it says over which slots an hour is spread, so the users of past hours would be looked for elsewhere",
    "hours_together": "it says which hours share their slots, so past hours would be looked for elsewhere",
    "hash": "it says which slot an hour lies in, so all that was counted would be looked for elsewhere",
    "uuid": "each data directory remembers it, so that two clusters are never mixed",
    "shards": "it only said when the first map is made",
    "first_shards": "it only said when the first map is made",
}


@click.group(invoke_without_command=True)
@cluster_options
@output_option
@click.pass_context
def config(context: click.Context, /, etcd: str | None, cluster: str | None, output: str, **access: Any) -> None:
    """Show what the processes of the cluster agree on; or change how many copies each slot has.

    copies is how many shards keep each slot, if there are so many. min_copies is how many of them must be in sync for
    the slot to take writes; with two shards one is enough. Where it is all of them, with more shards than copies, one
    shard that is away stops the writes of its slots. The rest is fixed for the life of the cluster.

    \b
    JSON: {"uuid": "...", "slots": 256, "spread": [[0, 16]], "hours_together": 24, "copies": 3, "min_copies": 2,
           "first_shards": 3, "format": 1, "hash": "xxh3_64"}; spread is [from which hour on, over how many slots]

    \b
    Examples:
      tally config
      tally config set copies 3 --min-copies 2
      tally config set copies 3 --dry-run

    Exit status: 0 shown, 1 etcd does not answer or there is no such cluster, 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    if context.invoked_subcommand is not None:
        return
    found = look_now(find_cluster(etcd, cluster, access)).state.config
    say(json.dumps(json.loads(found.to_json()), indent=2) if output == "json" else render(found))


@config.command("set")
@click.argument("name", type=click.STRING, metavar="copies")
@click.argument("value", metavar="N")
@click.option("--min-copies", type=int, metavar="M", help="Without it: as it is, or N if that is less.")
@cluster_options
@dry_run_option
def set_config(
    *,
    name: str,
    value: str,
    min_copies: int | None,
    etcd: str | None,
    cluster: str | None,
    dry_run: bool,
    **access: Any,
) -> None:
    """Have N copies of each slot, with writes only while M of them are in sync.

    The shards do it in the background, some slots at a time, while they go on serving; `tally status` shows how far
    they are. With M = 1 a slot goes on taking writes on its last copy, and losing that disk then loses them. With M = 2
    each acknowledged event is on two disks, and a slot that is down to one copy answers 503 until another has joined.

    \b
    Examples:
      tally config set copies 3 --min-copies 2
      tally config set copies 1 --dry-run

    Exit status: 0 set (or would be), 1 etcd does not answer or there is no such cluster, 2 not a setting that can be
    changed, or out of its range.
    """  # noqa: D301 - \b is how click keeps lines apart.
    check_name(name)
    try:
        copies = int(value)
    except ValueError as exc:
        raise ConfigError("copies", value, "a whole number") from exc
    where = find_cluster(etcd, cluster, access)
    change = make_now(where, lambda seen: setting(seen, copies, min_copies), dry_run=dry_run)
    say(f"would be done: {change.text}" if dry_run else change.text)


def check_name(name: str) -> None:
    """Make sure that a setting can be changed. Pure.

    Raises:
        click.UsageError: It can not; the error says why.
    """
    plain = name.replace("-", "_")
    if plain == "copies":
        return
    if plain == "min_copies":
        raise click.UsageError("min_copies is set together with copies: tally config set copies N --min-copies M")
    if plain in _FIXED:
        instead = "" if "shards" in plain else "; for another one, make a cluster under another name with tally create"
        raise click.UsageError(f"{name} is fixed for the life of the cluster: {_FIXED[plain]}{instead}")
    raise click.UsageError(f"there is no setting {name!r}; what can be set is copies, with --min-copies")


def setting(seen: Seen, copies: int, min_copies: int | None) -> Change:
    """Decide to have other numbers of copies. Pure.

    Raises:
        ConfigError: One of them is out of its range.
    """
    before = seen.state.config
    after = before.with_copies(copies, min_copies)
    if after == before:
        return Change(f"copies is {before.copies}, min_copies is {before.min_copies}, as it was")
    put = Put(seen.keys.config, after.to_json())
    return Change(describe(seen.state, after), (seen.keys.config,), (put,))


def describe(state: ClusterState, after: ClusterConfig) -> str:
    """Say what comes of another config. Pure."""
    before = state.config
    active = sum(member.wanted is Wanted.ACTIVE for member in state.members.values())
    each = after.copies_among(active)
    lines = [
        f"copies: {_step(before.copies, after.copies)}, min_copies: {_step(before.min_copies, after.min_copies)}",
        _work(state, each),
    ]
    if state.map is not None and each < after.copies:
        writes = after.min_copies_among(active)
        there = "1 active shard" if active == 1 else f"{active} active shards"
        lines.append(f"with {there} each slot has {each}, and takes writes with {writes}; more come with more shards")
    if after.copies > 1 and after.min_copies == 1:
        lines.append("min_copies is 1: what a slot's last copy took is lost with its disk; --min-copies 2 forbids that")
    if warning := without_spare(after, active if state.map is not None else max(active, after.first_shards)):
        lines.append(warning)
    return "\n".join(lines)


def without_spare(config: ClusterConfig, shards: int) -> str:
    """Warn of a config that lets none of so many shards be away; "" if it does. Pure."""
    if not config.needs_all_among(shards):
        return ""
    least = config.min_copies
    return (
        f"with min_copies {least} of {config.copies} copies, one shard that is away stops the writes of its slots; "
        f"one copy more, or min_copies {least - 1}, prevents that"
    )


def _work(state: ClusterState, each: int) -> str:
    if state.map is None:
        return "there is no map yet: it is made so"
    have = [len(row.in_sync) for row in state.map.rows]
    missing, spare = sum(max(0, each - count) for count in have), sum(max(0, count - each) for count in have)
    if missing:
        return f"{missing} {'copy is' if missing == 1 else 'copies are'} to be made; see how it goes: tally status"
    if spare:
        return f"{spare} {'copy is' if spare == 1 else 'copies are'} to be dropped; see how it goes: tally status"
    return "no copy is to be made or dropped"


def _step(before: int, after: int) -> str:
    return str(after) if before == after else f"{before} -> {after}"


def render(found: ClusterConfig) -> str:
    """Show it to a person. Pure."""
    spreads = found.shape.spreads
    spread = (
        str(spreads[0][1]) if len(spreads) == 1 else ", ".join(f"{wide} from hour {hour}" for hour, wide in spreads)
    )
    rows = (
        ("copies", str(found.copies), "tally config set copies N"),
        ("min_copies", str(found.min_copies), "tally config set copies N --min-copies M"),
        ("slots", str(found.shape.slots), "fixed"),
        ("spread", spread, "fixed"),
        ("hours_together", str(found.shape.hours_together), "fixed"),
        ("first_shards", str(found.first_shards), "fixed"),
        ("uuid", found.uuid, "fixed"),
    )
    return table(("SETTING", "VALUE", "CHANGED BY"), rows)
