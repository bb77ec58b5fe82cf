"""The simulator finds mistakes that are planted into the core, the gateway or the controller, in ordinary seeds."""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from shard.replica.rounds import Rounds
from shard.replica.silence import Witness
from shard.replica.term import Phase, Term
from shard.replica.wishes import Wishes
from shard.replica.words import Effects, Stored, Tell
from tally.client.coalescer import Coalescer
from tally.cluster.op_name import OpName
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotRow
from tests.simulation import controller, gateway, planner
from tests.simulation.content import Building, Content
from tests.simulation.etcd import Guards, Seen
from tests.simulation.planner import View
from tests.simulation.runner import run_chunk

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

SEEDS = 2000

Plant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_the_backups(patch: pytest.MonkeyPatch) -> None:
    def all_have(term: Term, name: OpName) -> bool:
        return term.phase is Phase.SERVING or right(term, name)

    right = Term._all_have
    patch.setattr(Term, "_all_have", all_have)


def no_forward_of_the_head_in_a_new_term(patch: pytest.MonkeyPatch) -> None:
    def collect(term: Term, stored: Stored, now: float, effects: Effects) -> Stored:
        stored = right(term, stored, now, effects)
        for peer in term._members.values():
            peer.acked = stored.head.name
        return stored

    right = Term._collect
    patch.setattr(Term, "_collect", collect)


def promote_outside_the_set(patch: pytest.MonkeyPatch) -> None:
    def any_copy(view: View, slot: int, row: SlotRow) -> dict[str, str]:
        copies = {shard: health[slot].incarnation for shard, health in view.health.items()}
        return {shard: incarnation for shard, incarnation in copies.items() if incarnation and shard != row.primary}

    patch.setattr(planner, "promotable", any_copy)


def a_writer_id_used_again(patch: pytest.MonkeyPatch) -> None:
    def writer_ids(_: "Cluster", name: str) -> Iterator[bytes]:
        return repeat(name.encode())

    patch.setattr(gateway, "writer_ids", writer_ids)


def an_unknown_writer_taken_whatever_it_had_heard(patch: pytest.MonkeyPatch) -> None:
    def takes(_building: Building, _batch: object, _row: object) -> bool:
        return True

    patch.setattr(Building, "takes", takes)


def a_clone_without_the_floor(patch: pytest.MonkeyPatch) -> None:
    def copy(content: Content) -> Content:
        other = right(content)
        other.floor = 0
        return other

    right = Content.copy
    patch.setattr(Content, "copy", copy)


def no_check_of_keys(patch: pytest.MonkeyPatch) -> None:
    def knows(_content: Content, _number: int) -> bool:
        return False

    patch.setattr(Content, "knows", knows)


def a_backup_dropped_before_its_removal_is_confirmed(patch: pytest.MonkeyPatch) -> None:
    def wants(wishes: Wishes, shard: str, *wanted: Any) -> None:
        if wanted[0] is Change.REMOVE:
            del terms[wishes]._members[shard]
        else:
            right(wishes, shard, *wanted)

    def begin(term: Term, *args: Any) -> None:
        right_begin(term, *args)
        terms[term.wishes] = term

    terms: dict[Wishes, Term] = {}
    right, right_begin = Wishes.want_while_silent, Term.__init__
    patch.setattr(Wishes, "want_while_silent", wants)
    patch.setattr(Term, "__init__", begin)


def the_member_that_is_ahead_is_removed(patch: pytest.MonkeyPatch) -> None:
    def collect(term: Term, stored: Stored, now: float, effects: Effects) -> Stored:
        stored = right(term, stored, now, effects)
        if term.surpassed_by is not None:
            shard, _ = term.surpassed_by
            term.surpassed_by = None
            term._has_none(shard, term._members[shard])
        return stored

    right = Term._collect
    patch.setattr(Term, "_collect", collect)


def no_forward_of_the_head_to_a_process_that_came_back(patch: pytest.MonkeyPatch) -> None:
    def prove(_term: Term, _shard: str, _now: float) -> None:
        pass

    patch.setattr(Term, "prove", prove)


def no_request_is_doubted(patch: pytest.MonkeyPatch) -> None:
    def begin(witness: Witness) -> None:
        right(witness)
        witness.there = True

    right = Witness.__init__
    patch.setattr(Witness, "__init__", begin)


def a_doubted_request_executed_without_a_look(patch: pytest.MonkeyPatch) -> None:
    def believed(_view: View, _request: Request) -> Change:
        return Change.REMOVE

    patch.setattr(planner, "judged", believed)


def no_confirm_round(patch: pytest.MonkeyPatch) -> None:
    def tell_at_once(rounds: Rounds, _required: object, _now: float, _looked: float, effects: Effects) -> None:
        if rounds._readers:
            effects.later.append(Tell(tuple(rounds._readers)))
            rounds._readers = []

    patch.setattr(Rounds, "go_on", tell_at_once)


def a_reader_that_joins_a_read_that_was_sent(patch: pytest.MonkeyPatch) -> None:
    def sent(_coalescer: Coalescer[object], _hour: int) -> None:
        pass

    patch.setattr(Coalescer, "sent", sent)


def a_transaction_of_the_controller_without_its_guard(patch: pytest.MonkeyPatch) -> None:
    def no_guards(_revision: int, _seen: Seen, _requests: Sequence[Request]) -> Guards:
        return Guards(None, None)

    patch.setattr(controller, "guards_of", no_guards)


@pytest.mark.parametrize(
    "plant",
    [
        acknowledge_before_the_backups,
        no_forward_of_the_head_in_a_new_term,
        promote_outside_the_set,
        a_writer_id_used_again,
        an_unknown_writer_taken_whatever_it_had_heard,
        a_clone_without_the_floor,
        no_check_of_keys,
        a_backup_dropped_before_its_removal_is_confirmed,
        the_member_that_is_ahead_is_removed,
        no_forward_of_the_head_to_a_process_that_came_back,
        no_request_is_doubted,
        a_doubted_request_executed_without_a_look,
        no_confirm_round,
        a_reader_that_joins_a_read_that_was_sent,
        a_transaction_of_the_controller_without_its_guard,
    ],
    ids=lambda plant: plant.__name__,
)
def test_planted_mistake_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary seeds, the same for all mistakes; the first finding ends the search."""
    plant(monkeypatch)
    _, finding = run_chunk(range(SEEDS))
    assert finding is not None
