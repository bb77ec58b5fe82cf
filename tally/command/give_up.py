"""``tally give-up``: slots whose copies are all lost serve again, without what only these copies knew."""

import asyncio
from secrets import token_hex
from typing import Any, Final

import click

from tally.cluster.etcd import Etcd, Put
from tally.cluster.keys import Keys
from tally.cluster.rows import give_up as given_up
from tally.cluster.rows import with_rows
from tally.cluster.state import ClusterState
from tally.command.cluster import Change, Refused, Seen, cluster_options, dry_run_option, find_cluster, make
from tally.command.losses import Loss, describe_cost, describe_heirs, emptied, losses
from tally.command.options import Named
from tally.command.report import outdated
from tally.command.shards import Answers, ask_shards, found_copy
from tally.command.slot_list import named_slots, parse_slots
from tally.command.streams import say
from tally.command.survey import survey

_ASK_TIMEOUT_S: Final = 5.0
_LOOK_AGAIN_S: Final = 1.5  # A shard that just read the map may not have its copies yet.
_INCARNATION_BYTES: Final = 16


@click.command("give-up")
@click.option("--slots", required=True, metavar="LIST", help="Such as 3-7,12; `tally status` shows which.")
@click.option("--accept-data-loss", is_flag=True, help="Do it. Without it only the cost is told.")
@click.option("--to", metavar="SHARD", help="Who begins the slots that nobody has an older copy of.")
@cluster_options
@dry_run_option
def give_up(
    *,
    slots: str,
    accept_data_loss: bool,
    to: str | None,
    etcd: str | None,
    cluster: str | None,
    dry_run: bool,
    **access: Any,
) -> None:
    """Let slots serve again of which no copy is left, and accept that their events are lost.

    The last way out: while a shard that has the slots can come back with its disk, start that instead, and nothing is
    lost. If a live shard has an older complete copy of a slot, that one is taken, and only what came after it is lost.
    Otherwise the slot begins with nothing, on --to or on the shard with the fewest copies. Counts of all hours that lie
    in these slots are too low from then on. It can't be undone: lost copies that come back are thrown away. Make sure
    that the shards that had them are off: one that only lost its network may still take events, and they are lost too.

    It is refused for slots that have a live copy in sync, and while a live shard does not say what it has.

    \b
    Examples:
      tally give-up --slots 3-7,12                        what it would cost
      tally give-up --slots 3-7,12 --accept-data-loss

    Exit status: 0 given up, or --dry-run; 1 refused, or not done for want of --accept-data-loss, or etcd or a shard
    does not answer: then it is safe to run it again; 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = find_cluster(etcd, cluster, access)
    act = accept_data_loss and not dry_run
    change = asyncio.run(_give_up(where, GivingUp(slots, to, act=act)))
    say(change.text)
    if not accept_data_loss and not dry_run:
        where_to = f" --to {to}" if to else ""
        again = f"tally give-up --slots {slots.replace(' ', '')}{where_to} --accept-data-loss"
        raise Refused(f"nothing was done; to do it: {again}")


async def _give_up(where: Named, giving_up: "GivingUp") -> Change:
    async with where.connect() as etcd:
        return await make(etcd, where.keys, giving_up.decide, read=giving_up.read, dry_run=not giving_up.act)


class GivingUp:
    """One run of the command: asks the shards, lets them begin empty copies, and decides on the rows."""

    def __init__(self, slots: str, to: str | None, *, act: bool) -> None:
        """Prepare; without ``act`` no shard is told to begin anything."""
        self.act = act
        self._slots = slots
        self._to = to
        self._begun: dict[tuple[int, str], str] = {}
        self._answers: Answers = {}

    async def read(self, etcd: Etcd, keys: Keys) -> Seen:
        """Read what etcd says, and ask the shards."""
        seen, self._answers = await survey(etcd, keys, _ASK_TIMEOUT_S)
        return seen

    async def decide(self, seen: Seen) -> Change:
        """Decide on what was read; called again when the map changed in between."""
        state = seen.state
        slots = parse_slots(self._slots, state.config.shape.slots)
        if state.map is None:
            raise Refused("the slots are not shared out yet: there is nothing to give up")
        answers = self._answers
        check_map(state, answers)
        found = losses(state, answers, slots, self._to)
        if again := emptied(state, answers, slots):
            await asyncio.sleep(_LOOK_AGAIN_S)
            losses(state, {**answers, **await ask_shards(state, again, _ASK_TIMEOUT_S)}, slots, self._to)
        if not self.act:
            return Change(describe_cost(found))
        return change(seen, [await self._with_copy(seen, loss) for loss in found])

    async def _with_copy(self, seen: Seen, loss: Loss) -> Loss:
        if loss.incarnation:
            return loss
        key = (loss.slot, loss.heir)
        if key not in self._begun:
            incarnation = token_hex(_INCARNATION_BYTES)
            await found_copy(seen.state, loss.heir, loss.slot, incarnation)
            self._begun[key] = incarnation
        return loss._replace(incarnation=self._begun[key])


def check_map(state: ClusterState, answers: Answers) -> None:
    """Refuse to give up anything by a map that is not the newest: what it calls lost may be on other shards. Pure.

    Raises:
        Refused: It says how to bring the newest back.
    """
    if state.config.recovering or outdated(state.map, answers, state.config.shape.slots):
        raise Refused("etcd has an older map than the shards know, or none: run tally recover first, to its end")


def change(seen: Seen, found: list[Loss]) -> Change:
    """Decide on the rows. Pure.

    Args:
        seen: With a map.
        found: All with an incarnation.
    """
    slot_map = seen.state.map
    assert slot_map is not None
    after = with_rows(
        slot_map, {loss.slot: given_up(slot_map.rows[loss.slot], loss.heir, loss.incarnation) for loss in found}
    )
    # Nobody who has a copy may have come back, and no heir have gone, since the shards were asked.
    shards = {name for loss in found for name in (*loss.holders, loss.heir)}
    guards = (seen.keys.map, *(seen.keys.alive_of(name) for name in sorted(shards)))
    text = "\n".join(
        [
            f"given up: {named_slots(loss.slot for loss in found)}",
            *(f"  {line}" for line in describe_heirs(found)),
            "they serve again within seconds, see: tally status",
        ]
    )
    return Change(text, guards, (Put(seen.keys.map, after.to_json()),))
