"""gzip or not: plain bytes come out."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.command.importer.unpack import PIECE_BYTES_MAX, Damaged, Unpacker


def unpack(*chunks: bytes) -> bytes:
    unpacker = Unpacker()
    return b"".join([*(piece for chunk in chunks for piece in unpacker.feed(chunk)), *unpacker.end()])


@given(parts=st.lists(st.binary(max_size=300), min_size=1), size=st.integers(1, 50), padding=st.integers(0, 20))
def test_members_one_after_the_other_come_out_whole_however_they_are_cut(
    parts: list[bytes], size: int, padding: int
) -> None:
    data = (b"\0" * padding).join(gzip.compress(part) for part in parts) + b"\0" * padding
    assert unpack(*(data[at : at + size] for at in range(0, len(data), size))) == b"".join(parts)


@pytest.mark.parametrize("data", [b"", b"\x1f", b"a", b"\x1fab", b"timestamp_ms"])
def test_what_is_no_gzip_passes_unchanged(data: bytes) -> None:
    assert unpack(*(data[at : at + 1] for at in range(len(data)))) == data


def test_much_from_little_comes_in_bounded_pieces() -> None:
    unpacker = Unpacker()
    sizes = [len(piece) for piece in unpacker.feed(gzip.compress(bytes(10_000_000)))]
    assert sum(sizes) == 10_000_000
    assert max(sizes) <= PIECE_BYTES_MAX


def test_data_that_is_cut_off_gives_what_is_there_and_then_an_error() -> None:
    unpacker = Unpacker()
    data = gzip.compress(b"timestamp_ms,user,kind\n")
    assert b"".join(unpacker.feed(data[:-4])) == b"timestamp_ms,user,kind\n"
    with pytest.raises(Damaged, match="ends too early"):
        list(unpacker.end())


def test_a_wrong_checksum_is_an_error() -> None:
    data = bytearray(gzip.compress(b"abc"))
    data[-8] ^= 1
    with pytest.raises(Damaged, match="incorrect data check"):
        unpack(bytes(data))
