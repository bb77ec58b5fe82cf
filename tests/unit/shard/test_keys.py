"""What stands in RocksDB: values to bytes and back, and keys that sort as their numbers do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.counting.keys import (
    HEARTBEAT_KEY,
    NUMBER_MAX,
    RECORDS,
    STAGED,
    CopyRecord,
    Counts,
    WriterRow,
    cell_key,
    content_ranges,
    generation_ranges,
    heard_of,
    known_key,
    known_keys_before,
    log_key,
    record_key,
    slot_of_record,
    staging_key,
    user_key,
    with_generation,
    without_generation,
    writer_key,
    writer_range,
)
from tally.errors import StoreCorrupt
from tally.event import HOUR_MAX
from tally.hashing import SLOTS_MAX

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
sixteen = st.binary(min_size=16, max_size=16)
generations = st.integers(0, 2**32 - 2)
hours = st.integers(0, HOUR_MAX)
buckets = st.integers(0, SLOTS_MAX - 1)
cells = st.tuples(generations, hours, buckets)


@given(st.builds(Counts, u64, u64, u64))
def test_counts_are_read_as_they_were_written(counts: Counts) -> None:
    assert Counts.decode(counts.encode()) == counts


def test_cell_that_was_never_written_has_no_counts() -> None:
    assert Counts.decode(None) == Counts(0, 0, 0)


@given(st.builds(WriterRow, u64, st.integers(0, NUMBER_MAX), sixteen, st.binary(max_size=1000)))
def test_writer_row_is_read_as_it_was_written(row: WriterRow) -> None:
    assert WriterRow.decode(row.encode()) == row
    assert heard_of(row.encode()) == row.heard


@given(st.builds(CopyRecord, u32, sixteen, u64, u64, u64, sixteen, u32, u64, u64, u32, u64, u64, u32))
def test_record_of_a_copy_is_read_as_it_was_written(record: CopyRecord) -> None:
    assert CopyRecord.decode(record.encode()) == record


@given(st.binary(max_size=200))
def test_garbage_is_corruption_and_not_a_number(value: bytes) -> None:
    if len(value) != 24:
        with pytest.raises(StoreCorrupt, match="counts of a cell"):
            Counts.decode(value)
    if len(value) < 32:
        with pytest.raises(StoreCorrupt, match="row of a writer"):
            WriterRow.decode(value)
        with pytest.raises(StoreCorrupt, match="row of a writer"):
            heard_of(value)
    if len(value) not in {110, 114}:
        with pytest.raises(StoreCorrupt, match="record of a copy"):
            CopyRecord.decode(value)


def test_row_of_format_2_has_heard_nothing() -> None:
    """It has the time there at which its writer came last."""
    row = bytes.fromhex("0000000000000007" + "000001907f2d1000" + "aa" * 16 + "0002")
    assert WriterRow.decode(row) == WriterRow(7, 0, b"\xaa" * 16, bytes([0, 2]))
    assert heard_of(row) == 0


def test_record_of_format_2_has_neither_floor_nor_label() -> None:
    parts = ["00000003", "bb" * 16, "0000000000000005", "0000000000000004", "0000000000000101", "dd" * 16]
    parts += ["00000010", "000001907f2d1000", "000001907c000000", "00004d36", "0000000000000021", "0000000000000300"]
    record = CopyRecord.decode(bytes.fromhex("".join(parts)))
    whole = (3, b"\xbb" * 16, 5, 4, 257, b"\xdd" * 16, 16, 0x1907F2D1000, 0, 0x4D36, 33, 0x300, 0)
    assert record == CopyRecord(*whole)
    assert (record.floor, record.label) == (0, 0)


def test_stored_bytes_stay_what_they_are() -> None:
    """Data on disk depends on them."""
    assert Counts(1, 2, 3).encode().hex() == "000000000000000100000000000000020000000000000003"
    assert cell_key(1, 478_000, 5).hex() == "68" + "00000001" + "00074b30" + "0005"
    assert user_key(cell_key(1, 478_000, 5), b"ann").hex() == "75" + "00000001" + "00074b30" + "0005" + "616e6e"
    assert writer_key(1, bytes(16)).hex() == "77" + "00000001" + "00" * 16
    assert known_key(1, 20_000, bytes(16)).hex() == "6b" + "00000001" + "00004e20" + "00" * 16
    assert WriterRow(7, 5, bytes(16), b"").encode().hex() == "0000000000000007" + "8000000000000005" + "00" * 16
    assert record_key(258).hex() == "63" + "0102"
    assert log_key(1, 258).hex() == "6f" + "00000001" + "0000000000000102"
    assert staging_key(258).hex() == "73" + "00000102"


@given(cells, cells)
def test_cells_sort_by_generation_hour_and_bucket(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    assert (cell_key(*one) < cell_key(*other)) == (one < other)


@given(st.tuples(cells, st.binary(min_size=1, max_size=256)), st.tuples(cells, st.binary(min_size=1, max_size=256)))
def test_users_of_different_cells_or_names_have_different_keys(
    one: tuple[tuple[int, int, int], bytes], other: tuple[tuple[int, int, int], bytes]
) -> None:
    keys = [user_key(cell_key(*cell), user) for cell, user in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


@given(generations, sixteen, generations)
def test_range_of_writers_holds_those_of_one_generation(generation: int, writer: bytes, other: int) -> None:
    start, end = writer_range(generation)
    assert (start <= writer_key(other, writer) < end) == (other == generation)


labels = st.integers(0, 2**32 - 1)


@given(generations, labels, sixteen, generations, labels)
def test_range_of_known_keys_holds_those_of_one_generation_and_earlier_labels(
    generation: int, label: int, key: bytes, other: int, before: int
) -> None:
    start, end = known_keys_before(generation, before)
    assert (start <= known_key(other, label, key) < end) == (other == generation and label < before)


@given(st.integers(0, SLOTS_MAX - 1))
def test_range_of_records_holds_every_slot_and_nothing_else(slot: int) -> None:
    start, end = RECORDS
    assert start <= record_key(slot) < end
    assert slot_of_record(record_key(slot)) == slot
    assert not any(start <= key < end for key in (HEARTBEAT_KEY, staging_key(0), *keys_of_copy(0)))


@given(generations)
def test_range_of_markers_holds_every_generation_and_nothing_else(generation: int) -> None:
    start, end = STAGED
    assert start <= staging_key(generation) < end
    assert not any(start <= key < end for key in (HEARTBEAT_KEY, record_key(0), *keys_of_copy(generation)))


def keys_of_copy(generation: int) -> list[bytes]:
    """One key of each kind that a copy has; the last one is of its log."""
    cell = cell_key(generation, 478_000, 5)
    writer, known = writer_key(generation, b"\xff" * 16), known_key(generation, 20_000, b"\xff" * 16)
    return [cell, user_key(cell, b"ann"), writer, known, log_key(generation, 2**64 - 1)]


@given(generations, generations)
def test_ranges_of_a_generation_hold_all_its_keys_and_none_of_another(generation: int, other: int) -> None:
    for key in keys_of_copy(other):
        assert any(start <= key < end for start, end in generation_ranges(generation)) == (other == generation)
    markers = (HEARTBEAT_KEY, staging_key(generation), record_key(0))
    assert not any(start <= key < end for key in markers for start, end in generation_ranges(generation))


@given(generations)
def test_content_is_all_but_the_log(generation: int) -> None:
    *content, log = keys_of_copy(generation)
    assert all(any(start <= key < end for start, end in content_ranges(generation)) for key in content)
    assert not any(start <= log < end for start, end in content_ranges(generation))


@given(generations, generations)
def test_key_of_a_copy_moves_to_another_generation(generation: int, other: int) -> None:
    moved = [with_generation(other, without_generation(key)) for key in keys_of_copy(generation)]
    assert moved == keys_of_copy(other)


@given(generations, u64, u64)
def test_log_sorts_by_the_number_of_the_op(generation: int, one: int, other: int) -> None:
    assert (log_key(generation, one) < log_key(generation, other)) == (one < other)
