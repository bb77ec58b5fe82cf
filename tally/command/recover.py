"""``tally recover``: brings back the map of a cluster whose etcd lost its data, or has those of an old snapshot."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple

import click

from tally.cluster.config import ClusterConfig
from tally.cluster.etcd import Etcd, ModRevision, Put
from tally.cluster.identity import IDENTITY_FILE, Identity
from tally.cluster.keys import Keys
from tally.cluster.node_calls import NodeCalls
from tally.cluster.slot_map import SlotRow
from tally.cluster.state import ClusterState, KeyValue
from tally.command.cluster import KeepsChanging, Refused, Seen, cluster_options, dry_run_option, find_cluster
from tally.command.fence_calls import ask_heads
from tally.command.options import Named, option
from tally.command.recovery import (
    CopyHead,
    Recovered,
    describe_map,
    describe_shards,
    fences_above,
    heirs,
    map_of,
    missing,
    need,
    recovered,
    there,
)
from tally.command.shards import Answers, ask_shards, found_copy
from tally.command.slot_list import named_slots
from tally.command.streams import say
from tally.errors import DirectoryRefused

_ASK_S: Final = 5.0
_PAUSE_S: Final = 0.5
_ATTEMPTS: Final = 10
_INCARNATION_BYTES: Final = 16


class Wish(NamedTuple):
    """What the operator said.

    Attributes:
        data: A shard's data directory; None if etcd has the config.
        shards: How many shards had copies; None if etcd has a map, which names them.
        copies, min_copies: For a config that is lost.
        without: Shards that are given up.
        accept_loss: What only those knew may be lost.
        wait_s: How long to wait for the others.
        act: Fence and write.
    """

    data: Path | None
    shards: int | None
    copies: int
    min_copies: int | None
    without: frozenset[str]
    accept_loss: bool
    wait_s: float
    act: bool


@click.command()
@option(
    "--data", type=click.Path(path_type=Path), help="The data directory of a shard, if etcd lost all: says what was."
)
@option("--shards", type=click.IntRange(1), help="How many shards the cluster had. Needed if etcd has no map.")
@option("--copies", type=int, default=3, help="How many shards keep each slot. Only if etcd lost all.")
@option(
    "--min-copies", type=int, help="With fewer in sync a slot takes no writes. Only if etcd lost all; without it: 2."
)
@click.option("--without", multiple=True, metavar="SHARD", help="Do not wait for this one. May be repeated.")
@click.option("--accept-data-loss", is_flag=True, help="Go on without what only such shards, or nobody, has.")
@click.option(
    "--wait-s", type=click.FloatRange(0), default=60.0, show_default=True, help="How long to wait for shards."
)
@cluster_options
@dry_run_option
def recover(
    *,
    data: Path | None,
    shards: int | None,
    copies: int,
    min_copies: int | None,
    without: tuple[str, ...],
    accept_data_loss: bool,
    wait_s: float,
    etcd: str | None,
    cluster: str | None,
    dry_run: bool,
    **access: Any,
) -> None:
    """Make the map anew from what the shards have, after etcd lost its data or was restored from an old snapshot.

    While that is not done, running shards and gateways go on with the map that they know, and count exactly. But nobody
    can change it: a shard that dies is not replaced, and one that is restarted waits. `tally status` says when this
    command is needed. Do not use `tally create`: it would make another cluster, which these shards refuse to join.

    First it lets the config in etcd say that the cluster is being recovered, so that nobody else makes a map. If the
    config is gone, --data names the data directory of one shard, on this machine, running or not: it says which cluster
    it was. How many copies it kept is not written there: say --copies, and --min-copies if it was not 2.

    Then it waits for all shards: start those that are off. Every copy is asked what it has, and takes nothing from an
    older primary any more. Slots pause from then on, a second or so. The most advanced copy of each slot becomes its
    primary, and the map is written in one transaction. Nothing that was acknowledged is lost, if all shards are there.

    A shard that is gone for good is left out with --without and --accept-data-loss: nothing is lost even so where
    another copy in sync is left, but that can't be found out any more. Make sure that it is off. A slot that nobody has
    a copy of is begun with nothing, with --accept-data-loss only.

    Broken off, it can be run again, and must be: until then the cluster takes no changes.

    \b
    Examples:
      tally recover --etcd etcd:2379 --shards 3 --data /var/lib/tally     etcd came back empty
      tally recover --etcd etcd:2379                                      etcd came back with an old map
      tally recover --etcd etcd:2379 --dry-run                            who is there, and whether it is needed

    Exit status: 0 recovered, or --dry-run; 1 refused, not all shards are there, or etcd or a shard does not answer:
    then it is safe to run it again; 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = find_cluster(etcd, cluster, access)
    wish = Wish(data, shards, copies, min_copies, frozenset(without), accept_data_loss, wait_s, act=not dry_run)
    if without and not accept_data_loss:
        raise click.UsageError("--without may lose data: say --accept-data-loss too")
    say(asyncio.run(_recover(where, wish)))


async def _recover(where: Named, wish: Wish) -> str:
    async with where.connect() as etcd:
        return await Recovery(etcd, where.keys, wish).run()


class _Again(Exception):
    """Something changed while it was decided on: begin with what there is now."""


class Recovery:
    """One run of the command."""

    def __init__(self, etcd: Etcd, keys: Keys, wish: Wish) -> None:
        """Prepare."""
        self._etcd = etcd
        self._keys = keys
        self._wish = wish
        self._lost_config: ClusterConfig | None = None  # What it was, if etcd has it no more.
        self._begun: dict[int, SlotRow] = {}
        self._said = ""

    async def run(self) -> str:
        """Do it; return what to show.

        Raises:
            Refused: It is not needed, or would lose data.
            TallyError: It can't be done now.
        """
        if self._wish.data is not None:
            self._lost_config = lost_config(self._wish.data, self._wish)
        await self._check_needed()
        if self._wish.act:
            await self._begin()
        else:
            seen, answers = await self._all_there()
            return describe_shards(seen.state, answers)
        for _ in range(_ATTEMPTS):
            try:
                return await self._written(*await self._all_there())
            except _Again:
                await asyncio.sleep(_PAUSE_S)
        raise KeepsChanging

    async def _look(self) -> Seen:
        """Read all that etcd says; as if the config were there that it lost."""
        found = list((await self._etcd.read_prefix(self._keys.prefix)).found)
        revisions = {one.key: one.mod_revision for one in found}
        return Seen(self._keys, state_with(self._keys, found, self._lost_config), revisions)

    # Whether, and who else may write.

    async def _check_needed(self) -> None:
        seen = await self._look()
        answers = await ask_shards(seen.state, timeout_s=_ASK_S)
        seen = await self._look()  # Once more: copies may have told of rows that were newer than the first.
        if seen.state.map is None and self._wish.shards is None:
            raise click.UsageError("etcd has no map: say with --shards how many shards the cluster had")
        if not need(seen.state, answers):
            silent = sorted(shard for shard, answer in answers.items() if answer is None)
            who = f"; but {', '.join(silent)} did not answer: start them first" if silent else ""
            lost = "no shard that answers has a copy" if seen.state.map is None else "the map is as new as all copies"
            if self._keys.config in seen.revisions:
                raise Refused(f"there is nothing to recover: {lost}{who}")

    async def _begin(self) -> None:
        """Let the config say that the map is being made."""
        for _ in range(_ATTEMPTS):
            seen = await self._look()
            wanted = replace(seen.state.config, recovering=True)
            guard = ModRevision(self._keys.config, seen.revisions.get(self._keys.config, 0))
            there_already = self._keys.config in seen.revisions and seen.state.config.recovering
            if there_already or (await self._etcd.commit([guard], [Put(self._keys.config, wanted.to_json())])).ok:
                return
        raise KeepsChanging

    # The shards.

    async def _all_there(self) -> tuple[Seen, Answers]:
        """Wait for the shards; what etcd said was read before they were asked."""
        clock = asyncio.get_running_loop().time
        end = clock() + (self._wish.wait_s if self._wish.act else 0)
        while True:
            seen = await self._look()
            answers = await ask_shards(seen.state, timeout_s=_ASK_S)
            if back := self._wish.without & there(answers).keys():
                raise Refused(f"{', '.join(sorted(back))} answers and has copies: leave out --without for that one")
            absent = missing(seen.state, answers, self._wish.shards, self._wish.without)
            if not absent or not self._wish.act:
                self._progress(absent)
                return seen, answers
            if clock() >= end:
                raise Refused(
                    f"{absent}. Start what is off; if a shard is gone for good: --without SHARD --accept-data-loss. "
                    "Until this command has come to its end, the map can't be changed"
                )
            self._progress(f"waiting for shards: {absent}")
            await asyncio.sleep(_PAUSE_S)

    def _progress(self, text: str) -> None:
        if text and text != self._said:
            click.echo(text, err=True)
        self._said = text

    async def _fenced(self, seen: Seen, answers: Answers) -> tuple[list[int], dict[int, dict[str, CopyHead]]]:
        """Fence every copy; return by slot the epoch below which all is over now, and the heads."""
        state, fences = seen.state, fences_above(seen.state, answers)
        asked = there(answers)
        self._progress(f"asking {len(asked)} shards for what their copies have; slots pause now")
        told = await asyncio.gather(
            *(
                self._heads_of(state, shard, {slot: fences[slot] for slot in _slots_of(answers, shard)})
                for shard in asked
            )
        )
        heads: dict[int, dict[str, CopyHead]] = {}
        for shard, by_slot in zip(asked, told, strict=True):
            for slot, head in by_slot.items():
                heads.setdefault(slot, {})[shard] = head
        await self._check_still_so(state, fences, heads)
        return fences, heads

    async def _heads_of(self, state: ClusterState, shard: str, fences: Mapping[int, int]) -> dict[int, CopyHead]:
        """Ask one shard, and once more those of its copies that were just about to be replaced."""
        heads: dict[int, CopyHead] = {}
        left: Mapping[int, int] = fences
        for _ in range(_ATTEMPTS):
            told = await ask_heads(state.config.uuid, shard, state.members[shard].address, left)
            if any(answer.epoch > fences[slot] for slot, answer in told.items()):
                raise _Again
            heads |= {slot: answer.head for slot, answer in told.items() if answer.head is not None}
            left = {slot: fences[slot] for slot in fences if slot not in heads}
            if not left:
                return heads
            await asyncio.sleep(_PAUSE_S)
        raise Refused(f"{shard} is getting new copies of {named_slots(left)}; run it again")

    async def _check_still_so(
        self, state: ClusterState, fences: list[int], heads: Mapping[int, Mapping[str, CopyHead]]
    ) -> None:
        """Make sure that nothing happened since: the same copies and heads, no higher epoch, and nobody who serves."""
        answers = await ask_shards(state, timeout_s=_ASK_S)
        if any(above > fence + 1 for above, fence in zip(fences_above(state, answers), fences, strict=True)):
            raise _Again
        if any(answer is not None and answer.serving for answer in answers.values()):
            raise _Again
        for slot, by_shard in heads.items():
            for shard, head in by_shard.items():
                answer = answers.get(shard)
                copy = answer.copies.get(slot) if answer is not None else None
                if copy is None or (copy.incarnation, copy.opnum) != (head.incarnation, head.name.opnum):
                    raise _Again

    # The map.

    async def _written(self, seen: Seen, answers: Answers) -> str:
        before = {slot: shard for shard, answer in there(answers).items() for slot in answer.serving}
        fences, heads = await self._fenced(seen, answers)
        found = recovered(seen.state, fences, heads, before, accept_loss=self._wish.accept_loss)
        if (found.lost or found.unlike) and not self._wish.accept_loss:
            raise Refused(_refusal(found))
        begun = await self._begin_lost(seen, answers, found, fences)
        slot_map = map_of(found, begun)
        guards = [ModRevision(key, seen.revisions.get(key, 0)) for key in (self._keys.config, self._keys.map)]
        config = replace(seen.state.config, recovering=False)
        then = [Put(self._keys.map, slot_map.to_json()), Put(self._keys.config, config.to_json())]
        if not (await self._etcd.commit(guards, then)).ok:
            raise _Again
        calls = NodeCalls(config.uuid)
        try:
            await calls.hint_map(seen.state)
        finally:
            await calls.close()
        return describe_map(slot_map, found, begun)

    async def _begin_lost(
        self, seen: Seen, answers: Answers, found: Recovered, fences: list[int]
    ) -> dict[int, SlotRow]:
        """Let empty copies be begun of slots that nobody has; safe to repeat."""
        begun: dict[int, SlotRow] = {}
        for slot, shard in heirs(found, answers, seen.state, found.lost).items():
            incarnation = token_hex(_INCARNATION_BYTES)
            await found_copy(seen.state, shard, slot, incarnation)
            begun[slot] = SlotRow(fences[slot] + 1, shard, {shard: incarnation})
        if len(begun) < len(found.lost):
            raise Refused("no active shard answers, so nobody can begin the slots without a copy; start one first")
        return begun


def _slots_of(answers: Answers, shard: str) -> list[int]:
    answer = answers[shard]
    return [slot for slot, copy in answer.copies.items() if copy.complete] if answer is not None else []


def _refusal(found: Recovered) -> str:
    parts = []
    if found.lost:
        parts.append(f"no shard that answers has a copy of {named_slots(found.lost)}")
    if found.unlike:
        parts.append(f"copies of {named_slots(found.unlike)} have other content under the same number")
    return (
        f"{'; '.join(parts)}. Is a shard off that has one? Start it, and run this again; else --accept-data-loss: "
        "what is not there is begun with nothing, and of unlike copies that is taken which most shards have"
    )


def lost_config(data: Path, wish: Wish) -> ClusterConfig:
    """Return what the config was, by a shard's data directory.

    Raises:
        DirectoryRefused: It holds no shard's data.
        ConfigError: ``--copies`` or ``--min-copies`` is out of its range.
    """
    file = data / IDENTITY_FILE
    try:
        identity = Identity.from_json(file.read_bytes(), data)
    except OSError as exc:
        raise DirectoryRefused(str(data), f"{IDENTITY_FILE} in it can't be read ({exc.strerror})") from exc
    return ClusterConfig(
        uuid=identity.cluster,
        shape=identity.shape,
        copies=wish.copies,
        min_copies=min(2, wish.copies) if wish.min_copies is None else wish.min_copies,
        first_shards=wish.shards or 1,
    )


def state_with(keys: Keys, found: list[KeyValue], lost: ClusterConfig | None) -> ClusterState:
    """Parse what etcd has, with a config that it lost. Pure.

    Raises:
        Refused: There is no config, or one of another cluster, and what to do about it.
    """
    by_key = {one.key: one for one in found}
    there_is = by_key.get(keys.config)
    if there_is is None and lost is None:
        raise Refused(
            f"etcd has no config of the cluster {keys.cluster!r}: say with --data where a shard's data are, on a "
            "machine that has some; they say which cluster it was"
        )
    if there_is is not None and lost is not None:
        uuid = ClusterConfig.from_json(there_is.value, keys.config).uuid
        if uuid != lost.uuid and keys.map in by_key:
            raise Refused(
                f"etcd has another cluster of the name {keys.cluster!r}, with a map: {uuid}, not {lost.uuid}. If it "
                f"can go, end its shards, delete all below {keys.prefix} with etcdctl, and run this again"
            )
        if uuid == lost.uuid:
            lost = None
    if lost is not None:
        by_key[keys.config] = KeyValue(keys.config, lost.to_json().encode(), 0, 0)
    return ClusterState.from_etcd(keys, by_key.values())
