"""What ``tally import`` makes a line known by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.command.importer.keys import PREFIX_CHARACTERS_MAX, is_prefix, key_of_line
from tally.event import check_key

prefixes = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=PREFIX_CHARACTERS_MAX)
lines = st.integers(1, 10**20 - 1)


@given(prefixes, lines)
def test_every_key_is_one_that_gateways_take(prefix: str, line: int) -> None:
    assert is_prefix(prefix)
    check_key(key_of_line(prefix, line))


@given(prefixes, lines, prefixes, lines)
def test_two_lines_never_have_the_same_key(prefix: str, line: int, other_prefix: str, other_line: int) -> None:
    same = (prefix, line) == (other_prefix, other_line)
    assert (key_of_line(prefix, line) == key_of_line(other_prefix, other_line)) == same
    assert key_of_line(f"{prefix}-1", 1) != key_of_line(prefix, 11)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "é", "\x7f", "x" * (PREFIX_CHARACTERS_MAX + 1)])
def test_what_is_no_prefix(text: str) -> None:
    assert not is_prefix(text)
