"""An op of the log: bytes and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.counting.op_log import LogEntry
from tally.cluster.op_name import NOTHING, OpName
from tally.errors import StoreCorrupt

u64 = st.integers(0, 2**64 - 1)
names = st.builds(OpName, u64, u64, st.binary(min_size=16, max_size=16))


@given(st.builds(LogEntry, names, names | st.just(NOTHING), st.binary(max_size=100)))
def test_op_is_read_as_it_was_written(entry: LogEntry) -> None:
    assert LogEntry.decode(entry.encode()) == entry


def test_stored_bytes_stay_what_they_are() -> None:
    entry = LogEntry(OpName(2, 1, b"\xaa" * 16), NOTHING, b"body")
    assert entry.encode().hex() == f"{2:016x}{1:016x}{'aa' * 16}{0:016x}{0:016x}{'00' * 16}00{b'body'.hex()}"


@pytest.mark.parametrize("value", [b"", bytes(64), bytes(64) + b"\x02", b"\xff" * 64 + b"\x00"])
def test_garbage_is_corruption(value: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="op of the log"):
        LogEntry.decode(value)
