"""When there are colours and bars."""

from collections.abc import Mapping

import pytest

from tally.terminal import has_colours, moves_cursor


@pytest.mark.parametrize(
    ("environment", "is_terminal", "colours", "bars"),
    [
        ({"TERM": "xterm"}, True, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True, True),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, False, False),
        ({"FORCE_COLOR": "1"}, True, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, False, False, False),
        ({"TERM": "xterm", "TTY_COMPATIBLE": "1"}, False, False, False),
        ({"TERM": "xterm", "CLICOLOR_FORCE": "1"}, False, False, False),
    ],
)
def test_terminal_decides_and_then_who_wants_no_colour(
    environment: Mapping[str, str], *, is_terminal: bool, colours: bool, bars: bool
) -> None:
    assert has_colours(environment, is_terminal=is_terminal) is colours
    assert moves_cursor(environment, is_terminal=is_terminal) is bars
