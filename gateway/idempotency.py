"""The header ``Idempotency-Key``: a POST that is sent again with its key is counted once.

The value is taken as it is, but for the spaces and tabs around it that are HTTP's and not its own. The IETF's draft has
it in quotes: they are part of the key here, so that both ways to write it work, as long as a client keeps to one.

Pure.
"""

from collections.abc import Sequence

from tally.errors import InvalidEvent
from tally.event import KEY_HEADER, check_key


def key_of(values: Sequence[str]) -> str | None:
    """Return the key that a request carries, None if it has none.

    Args:
        values: One for each time that the request has the header.

    Raises:
        InvalidEvent: There is something else than exactly one valid key.
    """
    if not values:
        return None
    if len(values) > 1:
        raise InvalidEvent(KEY_HEADER, "must be given only once")
    check_key(values[0])
    return values[0]
