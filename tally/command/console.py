"""stderr as commands show on it how far they are."""

import os
import sys

from rich.console import Console

from tally.terminal import has_colours, moves_cursor


def stderr_console() -> Console:
    """Return stderr: with bars on a terminal that can draw them, and in lines elsewhere, whatever FORCE_COLOR says."""
    is_terminal = sys.stderr.isatty()
    draws = moves_cursor(os.environ, is_terminal=is_terminal)
    return Console(
        stderr=True,
        force_terminal=draws,
        force_interactive=draws,
        no_color=not has_colours(os.environ, is_terminal=is_terminal),
    )
