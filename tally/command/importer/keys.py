"""The idempotency key of a line: what is imported, and the number of the line. Pure.

What is imported is told from everything else by a prefix: the digest of a file's bytes, random bits for what can't be
read twice, or what the caller says.
"""

import re
from dataclasses import dataclass
from typing import Final

from tally.event import KEY_CHARACTERS_MAX

PREFIX_CHARACTERS_MAX: Final = 80
RANDOM_BYTES: Final = 16

_LINE_DIGITS_MAX: Final = 20
_PREFIX: Final = re.compile(f"[!-~]{{1,{PREFIX_CHARACTERS_MAX}}}")

assert PREFIX_CHARACTERS_MAX + 1 + _LINE_DIGITS_MAX <= KEY_CHARACTERS_MAX


@dataclass(frozen=True, kw_only=True)
class Again:
    """What a later run has to know, to recognise the lines of this one.

    Attributes:
        prefix: What the lines are known by.
        is_known: The same command finds the prefix by itself.
        changed: The file changed while it was imported: it has another digest now.
        damaged: It could not be read to its end: when it is mended, it has another digest.
    """

    prefix: str
    is_known: bool = True
    changed: bool = False
    damaged: bool = False


def is_prefix(text: str) -> bool:
    """Say whether a caller can have this as prefix: 1 to ``PREFIX_CHARACTERS_MAX`` printable ASCII, no spaces."""
    return _PREFIX.fullmatch(text) is not None


def key_of_line(prefix: str, line: int) -> str:
    """Return the key of a line, counted from 1; the gateway puts the event beside it."""
    # No two prefixes give the same key: what follows the last hyphen is the line.
    return f"{prefix}-{line}"
