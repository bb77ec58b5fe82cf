"""Whether the map must be recovered, who must be there for it, and in which epochs the copies are fenced. Pure."""

from collections.abc import Sequence, Set
from typing import Final

from tally.cluster.state import ClusterState
from tally.command.shards import Answers, ShardAnswer
from tally.command.slot_list import named_slots
from tally.command.tables import table

LEAP: Final = 1000
"""A gateway, or a shard that is away, may have read newer rows than all who answer: the new ones are above those."""


def there(answers: Answers) -> dict[str, ShardAnswer]:
    """Return the shards that answer and have copies: one without any is new, or has lost its disk."""
    return {
        shard: answer
        for shard, answer in answers.items()
        if answer is not None and any(copy.complete for copy in answer.copies.values())
    }


def need(state: ClusterState, answers: Answers) -> str:
    """Return why the map must be recovered; "" if nothing says so.

    Args:
        state: Read after the answers came, so that none of them can go by a newer map.
        answers: Of all members.
    """
    if state.config.recovering:
        return "tally recover broke off before"
    if state.map is None:
        return "etcd has no map" if there(answers) else ""
    known = known_epochs(state, answers)
    older = [slot for slot, row in enumerate(state.map.rows) if known[slot] > row.epoch]
    return f"etcd has older rows than the shards know, of {named_slots(older)}" if older else ""


def missing(state: ClusterState, answers: Answers, shards: int | None, without: Set[str]) -> str:
    """Return who is to answer before anything is decided, in words; "" if all are there.

    Args:
        state: As etcd has it; its map, old or not, names shards.
        answers: Of all members.
        shards: How many have copies; None: all members. Members that are silent may have some in any case: another one
            that was drained, and has copies yet, must not be counted in their place.
        without: Whom the operator gives up.
    """
    found = there(answers)
    named = set(state.members) if shards is None else {shard for shard, one in answers.items() if one is None}
    named |= set(state.map.shards()) if state.map is not None else set()
    named |= {shard for answer in answers.values() if answer is not None for shard in answer.map_shards}
    parts = [_absence(shard, answers) for shard in sorted(named - without - found.keys())]
    wanted = 0 if shards is None else shards - len(without - found.keys())
    if len(found) < wanted:
        parts.append(f"{len(found)} of {wanted} shards with copies answer ({', '.join(sorted(found)) or 'none'})")
    return "; ".join(parts)


def _absence(shard: str, answers: Answers) -> str:
    if shard not in answers:
        return f"{shard} has not registered"
    return f"{shard} does not answer" if answers[shard] is None else f"{shard} has no copies"


def known_epochs(state: ClusterState, answers: Answers) -> list[int]:
    """Return by slot the highest epoch that copies have stored, that shards know of rows, and that etcd has."""
    known = [row.epoch for row in state.map.rows] if state.map is not None else [0] * state.config.shape.slots
    for answer in answers.values():
        if answer is not None:
            for slot, epoch in enumerate(answer.map_epochs):
                known[slot] = max(known[slot], epoch)
            for slot, copy in answer.copies.items():
                known[slot] = max(known[slot], copy.epoch)
    return known


def fences_above(known: Sequence[int]) -> list[int]:
    """Return by slot the epoch that all copies are to store; ``LEAP`` above what is known, for others may know more."""
    return [epoch + LEAP for epoch in known]


def describe_shards(state: ClusterState, answers: Answers) -> str:
    """Show what there is to recover from."""
    lines = []
    for shard, answer in sorted(answers.items()):
        copies = answer.copies if answer is not None else {}
        lines.append(
            (
                shard,
                state.members[shard].address,
                "yes" if answer is not None else "NO",
                str(sum(copy.complete for copy in copies.values())),
                str(max((copy.epoch for copy in copies.values()), default=0)),
            )
        )
    return table(("SHARD", "ADDRESS", "ANSWERS", "COPIES", "HIGHEST EPOCH"), lines)
