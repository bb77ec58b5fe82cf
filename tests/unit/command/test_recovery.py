"""What ``tally recover`` decides: who must be there, in which epochs copies are fenced, and the rows that follow."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.cluster.identity import IDENTITY_FILE, Identity
from tally.cluster.keys import Keys
from tally.cluster.members import Wanted
from tally.cluster.op_name import OpName
from tally.cluster.rows import new_term, with_rows
from tally.cluster.secret import SECRET_FILE, ClusterSecret
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import KeyValue
from tally.command.cluster import Refused
from tally.command.recovery.decision import CopyHead, Told, describe_map, heirs, map_of, recovered
from tally.command.recovery.fence_calls import told_by
from tally.command.recovery.lost_config import Lost, lost_config, lost_secret, state_with
from tally.command.recovery.readiness import LEAP, describe_shards, fences_above, known_epochs, missing, need
from tally.command.shards import HeldCopy, ShardAnswer
from tally.errors import BadClusterData, DirectoryRefused
from tests.support.cluster_values import SECRET, SMALL, UUID, config, key_value, member, members, state

STATE = state(mapped=True, conf=config(copies=3))
assert STATE.map is not None
GONE = replace(STATE, map=None, map_revision=0)
NONE: frozenset[str] = frozenset()
DRAWN, OTHER = ClusterSecret("d" * 64), ClusterSecret("0" * 64)
INCARNATIONS = {f"s{number}": f"{number:x}" * 32 for number in range(5)}


def answer(*, epoch: int = 1, map_epoch: int = 0, slots: int = 8) -> ShardAnswer:
    """Return what a shard says that has complete copies of the first slots."""
    copies = {slot: HeldCopy("aa" * 16, epoch=epoch) for slot in range(slots)}
    return ShardAnswer(copies=copies, map_epochs=(map_epoch,) * 8 if map_epoch else ())


def head(shard: str, epoch: int, opnum: int, *, digest: bytes = b"d") -> CopyHead:
    """Return a head."""
    return CopyHead(INCARNATIONS[shard], OpName(epoch, opnum, digest))


def of_slot_0(heads: Mapping[str, CopyHead]) -> dict[int, Mapping[str, CopyHead]]:
    """Return heads of which only those of slot 0 matter."""
    return {0: heads} | {slot: {"s0": head("s0", 1, 1)} for slot in range(1, 8)}


# Whether it is needed, and who must be there.


@pytest.mark.parametrize(
    ("of", "answers", "reason"),
    [
        (STATE, {"s0": answer()}, ""),
        (STATE, {"s0": answer(epoch=2, slots=1)}, "etcd has older rows than the shards know, of slot 0"),
        (STATE, {"s0": answer(map_epoch=2)}, "etcd has older rows than the shards know, of slots 0-7"),
        (GONE, {"s0": answer()}, "etcd has no map"),
        (GONE, {"s0": ShardAnswer(), "s1": None}, ""),
        (replace(STATE, config=replace(STATE.config, recovering=True)), {}, "tally recover broke off before"),
    ],
)
def test_it_is_needed_only_if_the_map_is_older_than_what_shards_know(
    of: object, answers: dict[str, ShardAnswer | None], reason: str
) -> None:
    assert need(of, answers) == reason  # type: ignore[arg-type] # They are states.


ALL = {"s0": answer(), "s1": answer(), "s2": answer()}
TOLD_OF_S7 = replace(answer(), map_shards=("s0", "s7"))


@pytest.mark.parametrize(
    ("of", "answers", "shards", "without", "absent"),
    [
        (GONE, ALL, 3, NONE, ""),
        (GONE, ALL, 4, NONE, "3 of 4 shards with copies answer (s0, s1, s2)"),
        (GONE, ALL, 4, {"s3"}, ""),
        # s2 is registered and silent; that s4, which was drained, has copies yet makes up for nothing.
        (GONE, {"s0": answer(), "s1": answer(), "s2": None, "s4": answer()}, 3, NONE, "s2 does not answer"),
        (GONE, {"s0": answer(), "s1": answer(), "s2": None, "s4": answer()}, 3, {"s2"}, ""),
        (GONE, ALL | {"s4": ShardAnswer()}, 3, NONE, ""),  # A new one.
        (STATE, ALL, None, NONE, ""),
        (STATE, ALL | {"s1": None}, None, NONE, "s1 does not answer"),
        (STATE, ALL | {"s1": None}, None, {"s1"}, ""),
        (STATE, ALL | {"s1": ShardAnswer()}, None, NONE, "s1 has no copies"),
        (GONE, {"s0": TOLD_OF_S7}, 1, NONE, "s7 has not registered"),
        (GONE, {"s0": TOLD_OF_S7}, 2, {"s7"}, ""),
        (GONE, {}, 1, NONE, "0 of 1 shards with copies answer (none)"),
    ],
)
def test_who_has_copies_must_be_there_or_be_given_up(
    of: object, answers: dict[str, ShardAnswer | None], shards: int | None, without: set[str], absent: str
) -> None:
    assert missing(of, answers, shards, without) == absent  # type: ignore[arg-type] # They are states.


def test_fence_is_above_all_that_copies_have_stored_and_rows_that_anybody_knows() -> None:
    mapped = with_rows(STATE.map, {7: new_term(new_term(new_term(STATE.map.rows[7])))})  # type: ignore[arg-type,union-attr]
    answers = {"s0": answer(epoch=2, slots=2), "s1": answer(epoch=3, slots=1), "s2": None}
    assert known_epochs(replace(STATE, map=mapped), answers) == [3, 2, 1, 1, 1, 1, 1, 4]
    assert known_epochs(GONE, answers | {"s2": answer(slots=0, map_epoch=6)}) == [6] * 8
    assert known_epochs(GONE, {}) == [0] * 8
    assert fences_above([0, 7]) == [LEAP, 7 + LEAP]


# What becomes of a slot.


def test_most_advanced_copy_is_primary_and_only_those_with_its_head_are_in_sync() -> None:
    """One op behind is behind: that op may be acknowledged, and nobody may go on without it."""
    heads = {"s0": head("s0", 4, 8), "s1": head("s1", 4, 9), "s2": head("s2", 4, 9), "s3": head("s3", 3, 99)}
    found = recovered(STATE, [6] * 8, of_slot_0(heads), {0: "s0"})
    in_sync = {"s1": INCARNATIONS["s1"], "s2": INCARNATIONS["s2"]}
    assert found.rows[0] == SlotRow(7, "s1", in_sync, 2, gave_up=7)  # What s3 has is of no line that goes on.
    assert (found.behind, found.unlike, found.lost) == ({0: ("s0", "s3")}, (), ())


def test_higher_epoch_counts_more_than_more_ops() -> None:
    """The copy of the old term may have ops that were never acknowledged, any number of them but one."""
    heads = {"s0": head("s0", 3, 12), "s1": head("s1", 4, 11)}
    assert recovered(STATE, [6] * 8, of_slot_0(heads), {}).rows[0].primary == "s1"


@pytest.mark.parametrize(
    ("before", "opnum", "accept_loss", "after"),
    [(0, 10, False, 0), (3, 10, False, 3), (3, 11, False, 7), (0, 99, False, 7), (0, 10, True, 7), (3, 9, True, 7)],
)
def test_give_ups_are_kept_and_what_is_of_no_line_that_goes_on_is_given_up(
    before: int, opnum: int, accept_loss: bool, after: int
) -> None:
    """Else its shard would get no other copy: it looks as if the slot had lost what that has."""
    of = replace(STATE, map=SlotMap((SlotRow(5, "s1", {"s1": INCARNATIONS["s1"]}, gave_up=before),) * 8))
    heads = {"s0": head("s0", 3, opnum), "s1": head("s1", 4, 9)}
    found = recovered(of, [6] * 8, of_slot_0(heads), {}, accept_loss=accept_loss)
    assert found.rows[0].gave_up == after


def test_who_served_last_is_primary_again_and_else_slots_are_shared_out() -> None:
    heads = {slot: {shard: head(shard, 4, 9) for shard in ("s0", "s1", "s2")} for slot in range(8)}
    found = recovered(STATE, [6] * 8, heads, {0: "s2", 1: "s2", 2: "gone"})
    primaries = [found.rows[slot].primary for slot in range(8)]
    assert primaries[:2] == ["s2", "s2"]
    assert sorted(primaries.count(shard) for shard in ("s0", "s1", "s2")) == [2, 3, 3]
    assert map_of(found, {}).rows[5].in_sync.keys() == {"s0", "s1", "s2"}


def test_new_copies_that_never_had_an_op_are_all_in_sync() -> None:
    heads = {slot: {shard: CopyHead(INCARNATIONS[shard], OpName()) for shard in ("s0", "s1")} for slot in range(8)}
    found = recovered(STATE, [1] * 8, heads, {})
    assert all(row.in_sync.keys() == {"s0", "s1"} and row.epoch == 2 for row in found.rows.values())


def test_floor_is_what_the_active_members_allow() -> None:
    draining = state(of={**members(2), "s2": member(2, wanted=Wanted.DRAINING)}, conf=config(copies=3))
    heads = of_slot_0({shard: head(shard, 4, 9) for shard in ("s0", "s1", "s2")})
    for of, floor in ((STATE, 2), (draining, 1)):
        assert recovered(of, [6] * 8, heads, {}).rows[0].min_copies == floor


def test_heads_of_one_name_and_other_content_are_decided_on_only_if_loss_is_accepted() -> None:
    heads = {
        "s0": head("s0", 4, 9),
        "s1": head("s1", 4, 9, digest=b"other"),
        "s2": head("s2", 4, 9, digest=b"other"),
    }
    found = recovered(STATE, [6] * 8, of_slot_0(heads), {0: "s0"})
    assert (0 in found.rows, found.unlike) == (False, (0,))
    accepted = recovered(STATE, [6] * 8, of_slot_0(heads), {0: "s0"}, accept_loss=True)
    assert (accepted.rows[0].primary, sorted(accepted.rows[0].in_sync)) == ("s1", ["s1", "s2"])


def test_slots_that_nobody_has_go_to_active_shards_that_answer_and_have_few() -> None:
    found = recovered(STATE, [6] * 8, {slot: {"s0": head("s0", 4, 9)} for slot in range(5)}, {})
    assert found.lost == (5, 6, 7)
    answers = {"s0": answer(), "s1": answer(), "s2": None}
    chosen = heirs(found, answers, STATE, found.lost)
    assert chosen == {5: "s1", 6: "s1", 7: "s1"}
    begun = {slot: SlotRow(7, shard, {shard: "ee" * 16}) for slot, shard in chosen.items()}
    made = map_of(found, begun)
    assert [row.primary for row in made.rows] == ["s0"] * 5 + ["s1"] * 3
    shown = describe_map(made, found, begun)
    assert "recovered: 5 of 8 slots, with 8 copies in sync" in shown
    assert "begun with nothing, their events are lost: slots 5-7" in shown
    assert heirs(found, {"s0": None}, STATE, found.lost) == {}


def test_dry_run_shows_what_each_shard_has() -> None:
    lines = describe_shards(STATE, {"s0": answer(epoch=4), "s1": None}).splitlines()
    assert lines[1].split() == ["s0", "127.0.0.1:7000", "yes", "8", "4"]
    assert lines[2].split() == ["s1", "127.0.0.1:7001", "NO", "0", "0"]


# The config that etcd lost.

KEYS = Keys("t")
OURS = [key_value(KEYS.config, config(copies=3).to_json())]
MADE_ANEW = [key_value(KEYS.config, config(uuid="f" * 32).to_json())]


def test_config_is_made_of_what_a_data_directory_says(tmp_path: Path) -> None:
    (tmp_path / IDENTITY_FILE).write_text(Identity(UUID, "s1", "ab" * 16, SMALL, founded=True).to_json())
    lost = lost_config(tmp_path, 3, 2, None)
    assert (lost.uuid, lost.shape, lost.copies, lost.min_copies, lost.first_shards) == (UUID, SMALL, 2, 2, 3)
    assert lost_config(tmp_path, None, 2, 1).min_copies == 1
    with pytest.raises(DirectoryRefused, match="can't be read"):
        lost_config(tmp_path / "none", 3, 2, None)


def test_config_in_etcd_counts_unless_it_is_of_another_cluster_without_a_map() -> None:
    """Somebody may have run ``tally create`` first."""
    lost = Lost(config(copies=2), SECRET)
    with pytest.raises(Refused, match="--data"):
        state_with(KEYS, [], None, DRAWN)
    assert state_with(KEYS, [], lost, DRAWN).config == lost.config
    assert state_with(KEYS, OURS, lost, DRAWN).config == config(copies=3)
    assert state_with(KEYS, MADE_ANEW, lost, DRAWN).config == lost.config
    assert STATE.map is not None
    with pytest.raises(Refused, match="another cluster of the name 't', with a map"):
        state_with(KEYS, [*MADE_ANEW, key_value(KEYS.map, STATE.map.to_json())], lost, DRAWN)


@pytest.mark.parametrize(
    ("found", "in_directory", "expected"),
    [
        ([], SECRET, SECRET),
        ([], None, DRAWN),
        ([key_value(KEYS.secret, OTHER.to_json())], SECRET, SECRET),
        ([key_value(KEYS.secret, OTHER.to_json())], None, OTHER),
        (OURS, SECRET, SECRET),
        (OURS, None, DRAWN),
        ([*OURS, key_value(KEYS.secret, OTHER.to_json())], SECRET, OTHER),
        ([*MADE_ANEW, key_value(KEYS.secret, OTHER.to_json())], SECRET, SECRET),
        ([*MADE_ANEW, key_value(KEYS.secret, OTHER.to_json())], None, DRAWN),
    ],
)
def test_secret_comes_from_where_the_cluster_is_known_and_is_drawn_if_nobody_has_one(
    found: list[KeyValue], in_directory: ClusterSecret | None, expected: ClusterSecret
) -> None:
    lost = Lost(config(copies=2), in_directory)
    assert state_with(KEYS, found, lost, DRAWN).secret == expected


def test_secret_is_read_from_a_data_directory(tmp_path: Path) -> None:
    assert lost_secret(tmp_path) is None
    (tmp_path / SECRET_FILE).write_text(SECRET.to_json())
    assert lost_secret(tmp_path) == SECRET
    (tmp_path / SECRET_FILE).write_text("{}")
    with pytest.raises(BadClusterData, match=SECRET_FILE):
        lost_secret(tmp_path)


def test_head_counts_only_of_a_copy_that_took_the_fence() -> None:
    name = node_pb2.OpName(epoch=4, opnum=9, digest=b"d")
    wire = node_pb2.CopyAnswer(
        slot=3, verdict=node_pb2.VERDICT_OK, epoch=7, incarnation=b"\xaa" * 16, head=node_pb2.Op(name=name, body=b"x")
    )
    assert told_by(wire) == Told(7, CopyHead("aa" * 16, OpName(4, 9, b"d")))
    for verdict in (node_pb2.VERDICT_STALE, node_pb2.VERDICT_NO_COPY, node_pb2.VERDICT_UNSPECIFIED):
        wire.verdict = verdict
        assert told_by(wire) == Told(7, None)
