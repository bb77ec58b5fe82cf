"""One event, and the one place that says what a valid one is. Gateways ask before they take an event, shards again.

Pure. The numbers of ``Refusal``, and what ``key_hash`` gives, are on the wire and on disk: never change them.
"""

import re
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from xxhash import xxh3_128_digest

from tally.errors import InvalidEvent

USER_BYTES_MAX: Final = 256
TIMESTAMP_MS_MAX: Final = 253_402_300_799_999  # The last millisecond of the year 9999.
HOUR_MAX: Final = TIMESTAMP_MS_MAX // 3_600_000

KEY_HEADER: Final = "Idempotency-Key"
KEY_CHARACTERS_MAX: Final = 128
KEY_HASH_BYTES: Final = 16

_PLAIN_USER: Final = re.compile(rb"[ -~]{1,%d}" % USER_BYTES_MAX)
_CONTROL: Final = bytes(range(0x20)) + b"\x7f"
_C1_CONTROL: Final = re.compile(rb"\xc2[\x80-\x9f]")  # U+0080 to U+009F: terminals obey them, too.
# HTTP trims the value of a header, so a space at either end could be sent through one door and not through the other.
_KEY: Final = re.compile("[!-~](?:[ -~]*[!-~])?")
_KEYED: Final = struct.Struct(">IBH")


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
    Refusal.USER_HAS_CONTROL_BYTES: ("user", "must not have control characters (U+0000 to U+001F, U+007F to U+009F)"),
    Refusal.KIND_UNKNOWN: ("kind", "must be click or impression"),
    Refusal.OTHER_SLOT: ("user", "was sent to a slot that does not own it"),
}


class Event(NamedTuple):
    """One click or impression, reduced to what is counted.

    Attributes:
        hour: Whole hours since the Unix epoch, UTC.
        user: The name, byte for byte.
        kind: A ``Kind``.
        key: ``key_hash`` of its idempotency key, or nothing if it has none.
    """

    hour: int
    user: bytes
    kind: int
    key: bytes = b""


def refusal_of(hour: int, user: bytes, kind: int) -> Refusal:
    """Return why this event can't be counted, or ``Refusal.COUNTED``."""
    if not 0 <= hour <= HOUR_MAX:
        return Refusal.HOUR_OUT_OF_RANGE
    if kind not in (1, 2):
        return Refusal.KIND_UNKNOWN
    return refusal_of_user(user)


def refusal_of_user(user: bytes) -> Refusal:
    """Return why nobody can have this name, or ``Refusal.COUNTED``."""
    if _PLAIN_USER.fullmatch(user):
        return Refusal.COUNTED
    if not user:
        return Refusal.USER_EMPTY
    if len(user) > USER_BYTES_MAX:
        return Refusal.USER_TOO_LONG
    if len(user.translate(None, _CONTROL)) != len(user):
        return Refusal.USER_HAS_CONTROL_BYTES
    try:
        user.decode()
    except UnicodeDecodeError:
        return Refusal.USER_NOT_UTF8
    return Refusal.USER_HAS_CONTROL_BYTES if _C1_CONTROL.search(user) else Refusal.COUNTED


def check_key(key: str) -> None:
    """Check an idempotency key as a client sent it; it is taken as it is, quotes and all.

    Raises:
        InvalidEvent: Nobody can use this key.
    """
    if len(key) > KEY_CHARACTERS_MAX or not _KEY.fullmatch(key):
        raise InvalidEvent(
            KEY_HEADER, f"must be 1 to {KEY_CHARACTERS_MAX} printable ASCII characters, without a space at either end"
        )


def key_hash(key: str, hour: int, user: bytes, kind: int) -> bytes:
    """Return what a valid event with a valid key is known by: ``KEY_HASH_BYTES`` bytes.

    The event is in it, so that a key never hides an event that was not counted: with another event it is another key.
    """
    # Each part has its length before it or is of fixed length, but the last: no two events look the same.
    return xxh3_128_digest(_KEYED.pack(hour, kind, len(user)) + user + key.encode("ascii"))


def invalid(refusal: int) -> InvalidEvent:
    """Return the error that tells a caller about a ``Refusal``, perhaps one of a newer version; not for ``COUNTED``."""
    return InvalidEvent(*_EXPLAINED.get(refusal, ("event", "was refused")))
