"""Fences every copy that there is, and makes sure that nothing happened beside it."""

import asyncio
from collections.abc import Mapping
from typing import Final

from tally.cluster.state import ClusterState
from tally.command.cluster import Refused
from tally.command.recovery.decision import CopyHead
from tally.command.recovery.fence_calls import ask_heads
from tally.command.recovery.readiness import fences_above, known_epochs, there
from tally.command.shards import Answers, ask_shards
from tally.command.slot_list import named_slots

ASK_S: Final = 5.0
_PAUSE_S: Final = 0.5
_ATTEMPTS: Final = 10


class ChangedMeanwhile(Exception):
    """Something changed while it was looked at: begin with what there is now."""


async def fenced(state: ClusterState, answers: Answers) -> tuple[list[int], dict[int, dict[str, CopyHead]]]:
    """Fence every copy.

    Args:
        state: With a map whose mod_revision guards what is made of this.
        answers: Of all members, asked after ``state`` was read.

    Returns:
        By slot the epoch below which all is over now; and slot -> shard -> the head of its copy.

    Raises:
        ChangedMeanwhile: Look again, and repeat it.
        Refused: A shard is getting new copies and did not tell.
        Unavailable: A shard did not answer.
    """
    fences, asked = fences_above(known_epochs(state, answers)), there(answers)
    told = await asyncio.gather(
        *(_heads_of(state, shard, {slot: fences[slot] for slot in _slots_of(answers, shard)}) for shard in asked)
    )
    heads: dict[int, dict[str, CopyHead]] = {}
    for shard, by_slot in zip(asked, told, strict=True):
        for slot, head in by_slot.items():
            heads.setdefault(slot, {})[shard] = head
    await _check_still_so(state, fences, heads)
    return fences, heads


async def _heads_of(state: ClusterState, shard: str, fences: Mapping[int, int]) -> dict[int, CopyHead]:
    """Ask one shard, and once more those of its copies that were just about to be replaced."""
    heads: dict[int, CopyHead] = {}
    left: Mapping[int, int] = fences
    for _ in range(_ATTEMPTS):
        told = await ask_heads(state, shard, left)
        if any(answer.epoch > fences[slot] for slot, answer in told.items()):
            raise ChangedMeanwhile
        heads |= {slot: answer.head for slot, answer in told.items() if answer.head is not None}
        left = {slot: fences[slot] for slot in fences if slot not in heads}
        if not left:
            return heads
        await asyncio.sleep(_PAUSE_S)
    raise Refused(f"{shard} is getting new copies of {named_slots(left)}; run it again")


async def _check_still_so(state: ClusterState, fences: list[int], heads: Mapping[int, Mapping[str, CopyHead]]) -> None:
    """Make sure that nothing happened since: the same copies and heads, no higher epoch, and nobody who serves."""
    answers = await ask_shards(state, timeout_s=ASK_S)
    if any(known > fence for known, fence in zip(known_epochs(state, answers), fences, strict=True)):
        raise ChangedMeanwhile
    if any(answer is not None and answer.serving for answer in answers.values()):
        raise ChangedMeanwhile
    for slot, by_shard in heads.items():
        for shard, head in by_shard.items():
            answer = answers.get(shard)
            copy = answer.copies.get(slot) if answer is not None else None
            if copy is None or (copy.incarnation, copy.head) != (head.incarnation, head.name):
                raise ChangedMeanwhile


def _slots_of(answers: Answers, shard: str) -> list[int]:
    answer = answers[shard]
    return [slot for slot, copy in answer.copies.items() if copy.complete] if answer is not None else []
