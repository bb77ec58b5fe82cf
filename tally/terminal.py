"""Whether what is written may have colours and bars: the terminal decides, and then the conventions for who wants none.

``NO_COLOR`` (no-color.org), set to anything, and ``TERM=dumb`` take colours away. ``FORCE_COLOR`` and the like give
none to a file or a pipe: what stands there is read by programs, and for years.
"""

from collections.abc import Mapping


def has_colours(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether colours may be written. Pure."""
    return moves_cursor(environment, is_terminal=is_terminal) and not environment.get("NO_COLOR")


def moves_cursor(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Whether a line may be written over, as a bar is. Pure."""
    return is_terminal and environment.get("TERM", "dumb") not in {"", "dumb", "unknown"}
