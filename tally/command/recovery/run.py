"""One run of ``tally recover``: what is read, waited for and written, in which order."""

import asyncio
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

import click

from tally.cluster.config import ClusterConfig
from tally.cluster.controller.node_calls import NodeCalls
from tally.cluster.etcd import Etcd, ModRevision, Put
from tally.cluster.keys import Keys
from tally.cluster.secret import ClusterSecret
from tally.cluster.slot_map import SlotRow
from tally.command.cluster import KeepsChanging, Refused, Seen
from tally.command.recovery.decision import Recovered, describe_map, heirs, map_of, recovered
from tally.command.recovery.fencing import ASK_S, ChangedMeanwhile, fenced
from tally.command.recovery.lost_config import Lost, lost_config, lost_secret, state_with
from tally.command.recovery.readiness import describe_shards, missing, need, there
from tally.command.shards import Answers, ask_shards, found_copy
from tally.command.slot_list import named_slots

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


class Recovery:
    """One run of the command."""

    def __init__(self, etcd: Etcd, keys: Keys, wish: Wish) -> None:
        """Prepare."""
        self._etcd = etcd
        self._keys = keys
        self._wish = wish
        self._lost: Lost | None = None  # What there was, if etcd has it no more.
        self._drawn = ClusterSecret.draw()  # For a cluster that nobody knows a secret of.
        self._config_is_there = False  # And not one of another cluster.
        self._secret_is_there = False  # Likewise.
        self._said = ""

    async def run(self) -> str:
        """Do it; return what to show.

        Raises:
            Refused: It is not needed, or would lose data.
            TallyError: It can't be done now.
        """
        if self._wish.data is not None:
            config = lost_config(self._wish.data, self._wish.shards, self._wish.copies, self._wish.min_copies)
            self._lost = Lost(config, lost_secret(self._wish.data))
        needless = await self._needless()
        if needless and self._wish.act:
            raise Refused(needless)
        if needless:
            return needless
        if not self._wish.act:
            seen, answers = await self._all_there()
            return describe_shards(seen.state, answers)
        await self._begin()
        for _ in range(_ATTEMPTS):
            try:
                return await self._written(*await self._all_there())
            except ChangedMeanwhile:
                await asyncio.sleep(_PAUSE_S)
        raise KeepsChanging

    async def _look(self) -> Seen:
        """Read all that etcd says; as if the config were there that it lost."""
        found = list((await self._etcd.read_prefix(self._keys.prefix)).found)
        state = state_with(self._keys, found, self._lost, self._drawn)
        values = {one.key: one.value for one in found}
        config, secret = values.get(self._keys.config), values.get(self._keys.secret)
        self._config_is_there = config is not None and ClusterConfig.from_json(config, "").uuid == state.config.uuid
        self._secret_is_there = state.secret is not None and secret == state.secret.to_json().encode()
        return Seen(self._keys, state, {one.key: one.mod_revision for one in found})

    # Whether, and who else may write.

    async def _needless(self) -> str:
        """Return why there is nothing to do; "" if there is."""
        seen = await self._look()
        answers = await ask_shards(seen.state, timeout_s=ASK_S)
        seen = await self._look()  # Once more: copies may have told of rows that were newer than the first.
        if seen.state.map is None and self._wish.shards is None:
            raise click.UsageError("etcd has no map: say with --shards how many shards the cluster had")
        if not need(seen.state, answers):
            silent = sorted(shard for shard, answer in answers.items() if answer is None)
            who = f"; but {', '.join(silent)} did not answer: start them first" if silent else ""
            lost = "no shard that answers has a copy" if seen.state.map is None else "the map is as new as all copies"
            if self._config_is_there:
                return f"there is nothing to recover: {lost}{who}"
        return ""

    async def _begin(self) -> None:
        """Let the config say that the map is being made; and let the secret stand in etcd, if it does not."""
        for _ in range(_ATTEMPTS):
            seen = await self._look()
            wanted = replace(seen.state.config, recovering=True)
            guards = [ModRevision(key, seen.revisions.get(key, 0)) for key in (self._keys.config, self._keys.secret)]
            then = [Put(self._keys.config, wanted.to_json())]
            if not self._secret_is_there and seen.state.secret is not None:
                then.append(Put(self._keys.secret, seen.state.secret.to_json()))
            said_already = self._config_is_there and self._secret_is_there and seen.state.config.recovering
            if said_already or (await self._etcd.commit(guards, then)).ok:
                return
        raise KeepsChanging

    # The shards.

    async def _all_there(self) -> tuple[Seen, Answers]:
        """Wait for the shards; what etcd said was read before they were asked."""
        clock = asyncio.get_running_loop().time
        end = clock() + (self._wish.wait_s if self._wish.act else 0)
        while True:
            seen = await self._look()
            if self._wish.act and not seen.state.config.recovering:
                raise Refused("another run of this command has come to its end, see: tally status")
            answers = await ask_shards(seen.state, timeout_s=ASK_S)
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

    # The map.

    async def _written(self, seen: Seen, answers: Answers) -> str:
        before = {slot: shard for shard, answer in there(answers).items() for slot in answer.serving}
        self._progress(f"asking {len(there(answers))} shards for what their copies have; slots pause now")
        fences, heads = await fenced(seen.state, answers)
        found = recovered(seen.state, fences, heads, before, accept_loss=self._wish.accept_loss)
        if (found.lost or found.unlike) and not self._wish.accept_loss:
            raise Refused(_refusal(found))
        begun = await self._begin_lost(seen, answers, found, fences)
        slot_map = map_of(found, begun)
        guards = [ModRevision(key, seen.revisions.get(key, 0)) for key in (self._keys.config, self._keys.map)]
        config = replace(seen.state.config, recovering=False)
        then = [Put(self._keys.map, slot_map.to_json()), Put(self._keys.config, config.to_json())]
        if not (await self._etcd.commit(guards, then)).ok:
            raise ChangedMeanwhile
        calls = NodeCalls(lambda: seen.state)
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
            epoch = fences[slot] + 1
            begun[slot] = SlotRow(epoch, shard, {shard: incarnation}, gave_up=epoch)
        if len(begun) < len(found.lost):
            raise Refused("no active shard answers, so nobody can begin the slots without a copy; start one first")
        return begun


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
