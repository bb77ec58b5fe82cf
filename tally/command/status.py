"""``tally status``: shards, slots, copies and the controller."""

import asyncio
from typing import Any

import click

from tally.cluster.state import ClusterState
from tally.command.cluster import cluster_options, find_cluster, output_option
from tally.command.options import Named
from tally.command.report import render_json, render_table, status_report
from tally.command.shards import Answers
from tally.command.streams import say
from tally.command.survey import survey
from tally.errors import TallyError


@click.command()
@cluster_options
@output_option
def status(etcd: str | None, cluster: str | None, output: str, **access: Any) -> None:
    """Show the shards, what each serves and keeps, the controller, and what is missing or under way.

    ALIVE says that a shard's process holds its lease in etcd. SLOTS are those that the map gives it as primary, SERVING
    those of them that it serves now: each shard is asked, and one that does not answer within a second serves none.
    COPIES are all slots that it keeps in sync, JOINING those that it is getting a copy of.
    A copy on a shard that does not answer is missing.

    Below: how many copies are missing or on their way, for how long slots were on a single copy (each slot counts its
    own seconds, from the start of the shard that is its primary), which slots take no writes because too few copies are
    in sync, and which have no live copy at all, with what to do about it. Last, disks that are full or nearly so, and
    an alarm that stands in etcd.

    \b
    JSON: {"shards": [{"id": "s1", "address": "127.0.0.1:9101", "wanted": "active", "alive": true, "slots": 86,
                 "serving": 86, "copies": 171, "joining": 2, "redundancy": null if it does not answer, or
                 {"single_copy_s": slot-seconds on one copy although more are wanted, "copies_missing": 0,
                  "clones": 0, "catch_ups": 86, "terms_refused": 0}: all since its process began,
                 "disk_full": whether its disk is so full that it takes no new copies, "takes_no_events": so full that
                 it takes no events either; both null if it does not answer}, ...],
           "controller": "s1" or null, "slots": 256, "map": whether the slots are shared out,
           "recovering": whether tally recover is at work, "map_outdated": [slots that it is needed for],
           "slots_serving": 256, "all_serve": whether each slot is served by its primary,
           "copies": 3, "min_copies": 2: as `tally config` shows them,
           "copies_missing": 12, "copies_silent": copies in sync on shards that do not answer, and so missing too,
           "moves": copies that are joining now,
           "copies_at_place": 500 and "copies_to_be": 512, both null while an active shard is away,
           "not_writable": [slots with too few copies in sync], "without_live_copy": [slots],
           "etcd_alarms": ["NOSPACE"] while etcd is full and takes no writes, else [],
           "refusing": {reason: [slots that are served, but refuse something, or did within 10 s]}}

    \b
    Examples:
      tally status
      tally status --etcd 10.0.0.1:2379 --output json

    Exit status: 0 all slots serve and take writes, 1 some do not, or the map must be recovered, or etcd does not
    answer.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = find_cluster(etcd, cluster, access)
    report = status_report(*asyncio.run(_look(where)))
    say(render_json(report) if output == "json" else render_table(report))
    raise SystemExit(0 if report.well else 1)


async def _look(where: Named) -> tuple[ClusterState, Answers, tuple[str, ...]]:
    """Return what etcd says, what each member says of itself, and which alarms stand in etcd."""
    async with where.connect() as etcd:
        seen, answers = await survey(etcd, where.keys)
        try:
            alarms = await etcd.alarms()
        except TallyError:  # etcd may let us at our keys only; all else is worth showing.
            alarms = ()
    return seen.state, answers, alarms
