"""What a terminal could be made to do with a stranger's text."""

import pytest

from tally.command.tables import table
from tally.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 用户 🙂", "Zoë 用户 🙂"),
        ("\u202eann", r"\u202eann"),
        ("a\u2066b\u200f", r"a\u2066b\u200f"),
        ("\x1b[31m\n\x85", r"\x1b[31m\n\x85"),
        ("\ud800", r"\ud800"),
    ],
)
def test_only_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown in table(["name"], [[text]])
