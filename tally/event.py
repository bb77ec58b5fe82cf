"""One event, and the one place that says what a valid one is. Gateways ask before they take an event, shards again.

Pure. The numbers of ``Refusal`` are on the wire and on disk: never renumber them.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from tally.errors import InvalidEvent

USER_BYTES_MAX: Final = 256
TIMESTAMP_MS_MAX: Final = 253_402_300_799_999  # The last millisecond of the year 9999.
HOUR_MAX: Final = TIMESTAMP_MS_MAX // 3_600_000

_CONTROL: Final = bytes(range(0x20)) + b"\x7f"


class Kind(IntEnum):
    """What the user did. The numbers are those of ``tally.v1.Kind``."""

    CLICK = 1
    IMPRESSION = 2


class Refusal(IntEnum):
    """Why an event is not counted; COUNTED says that it is."""

    COUNTED = 0
    HOUR_OUT_OF_RANGE = 1
    USER_EMPTY = 2
    USER_TOO_LONG = 3
    USER_NOT_UTF8 = 4
    USER_HAS_CONTROL_BYTES = 5
    KIND_UNKNOWN = 6
    OTHER_SLOT = 7  # The event belongs to another slot than the one it was sent to.


_EXPLAINED: Final[Mapping[int, tuple[str, str]]] = {
    Refusal.HOUR_OUT_OF_RANGE: ("timestamp", "must be in the years 1970 to 9999"),
    Refusal.USER_EMPTY: ("user", "must not be empty"),
    Refusal.USER_TOO_LONG: ("user", f"must be at most {USER_BYTES_MAX} bytes long"),
    Refusal.USER_NOT_UTF8: ("user", "must be valid UTF-8"),
    Refusal.USER_HAS_CONTROL_BYTES: ("user", "must not have control characters (bytes below 0x20, or 0x7f)"),
    Refusal.KIND_UNKNOWN: ("kind", "must be click or impression"),
    Refusal.OTHER_SLOT: ("user", "was sent to a slot that does not own it"),
}


class Event(NamedTuple):
    """One click or impression, reduced to what is counted."""

    hour: int
    user: bytes
    kind: int


def refusal_of(hour: int, user: bytes, kind: int) -> Refusal:
    """Return why this event can't be counted, or ``Refusal.COUNTED``."""
    if not 0 <= hour <= HOUR_MAX:
        return Refusal.HOUR_OUT_OF_RANGE
    if kind not in (1, 2):
        return Refusal.KIND_UNKNOWN
    return refusal_of_user(user)


def refusal_of_user(user: bytes) -> Refusal:
    """Return why nobody can have this name, or ``Refusal.COUNTED``."""
    if not user:
        return Refusal.USER_EMPTY
    if len(user) > USER_BYTES_MAX:
        return Refusal.USER_TOO_LONG
    if len(user.translate(None, _CONTROL)) != len(user):
        return Refusal.USER_HAS_CONTROL_BYTES
    if not user.isascii():
        try:
            user.decode()
        except UnicodeDecodeError:
            return Refusal.USER_NOT_UTF8
    return Refusal.COUNTED


def invalid(refusal: int) -> InvalidEvent:
    """Return the error that tells a caller about a ``Refusal``, perhaps one of a newer version; not for ``COUNTED``."""
    return InvalidEvent(*_EXPLAINED.get(refusal, ("event", "was refused")))
