"""What a shard's client leaves to the process after it: how it is written down."""

from tally.client.last_words import LastWord, decode, encode

ONE = LastWord((b"a" * 16,), last=False, suspected=True)
TWO = LastWord((b"a" * 16, b"b" * 16), last=True, suspected=False)


def test_what_is_noted_is_read() -> None:
    assert decode(encode(1, ONE) + encode(2**40, TWO)) == [ONE, TWO]
    assert decode(b"") == []


def test_what_broke_off_at_the_end_is_left_out() -> None:
    whole = encode(1, ONE) + encode(2, TWO)
    for length in range(len(encode(1, ONE)), len(whole)):
        assert decode(whole[:length]) == [ONE]


def test_what_is_struck_out_or_noted_anew_is_not_there_twice() -> None:
    struck_out = LastWord((), last=False, suspected=False)
    assert decode(encode(1, ONE) + encode(2, TWO) + encode(1, struck_out)) == [TWO]
    assert decode(encode(1, ONE) + encode(2, TWO) + encode(1, TWO)) == [TWO, TWO]
