"""What is written to the store at once. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

WRITE_ENTRIES: Final = 1000  # rocksdict holds the GIL through a write: about 0.3 ms for so many.


class Changes(NamedTuple):
    """What is written whole or not at all.

    Attributes:
        puts: Keys and values.
        deletes: Keys to remove.
        range_deletes: Pairs (from, up to but without) between which every key is removed.
    """

    puts: Sequence[tuple[bytes, bytes]]
    deletes: Sequence[bytes] = ()
    range_deletes: Sequence[tuple[bytes, bytes]] = ()
