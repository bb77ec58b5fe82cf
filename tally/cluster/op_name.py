"""The name of an op: what a copy tells of its head. Pure."""

from typing import Final, NamedTuple


class OpName(NamedTuple):
    """What an op is known by; the digest chains over all ops before it.

    Compare by ``order`` which of two heads is the higher one: a digest is before or after nothing.
    """

    epoch: int = 0
    opnum: int = 0
    digest: bytes = b""

    @property
    def order(self) -> tuple[int, int]:
        """Where the op stands: by epoch, then by number."""
        return self.epoch, self.opnum


NOTHING: Final = OpName()
"""The head of a copy that never applied an op."""
