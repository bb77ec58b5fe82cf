"""The query string, from raw bytes to what is asked: the same bytes always name the same user.

    timestamp=1700000000000&user=ann&click

A form's rules: ``&`` between parameters, ``+`` and ``%20`` are both a space, ``%XX`` is one byte. Each parameter stands
at most once, however its name is spelled. Bytes, not text, so that no decoder can turn two users into one.

Pure. Anything that is not exactly right is an ``InvalidEvent`` that names the parameter.
"""

import re
from typing import Final, NamedTuple

from tally.errors import InvalidEvent
from tally.event import TIMESTAMP_MS_MAX, Kind, Refusal, invalid, refusal_of_user

_TIMESTAMP_DIGITS_MAX: Final = 15
_GET_PARAMETERS: Final = frozenset({b"timestamp"})
_POST_PARAMETERS: Final = frozenset({b"timestamp", b"user", b"click", b"impression"})
_NAME_SHOWN_MAX: Final = 40

_HEX_DIGITS: Final = "0123456789abcdefABCDEF"
_BYTE_OF_HEX: Final = {(a + b).encode(): bytes.fromhex(a + b) for a in _HEX_DIGITS for b in _HEX_DIGITS}


# How nearly all requests look: nothing in them needs decoding, and nothing can be wrong but the time.
_PLAIN_POST: Final = re.compile(rb"timestamp=([0-9]{1,15})&user=([A-Za-z0-9._~-]{1,256})&(?:(click)|impression)")
_PLAIN_GET: Final = re.compile(rb"timestamp=([0-9]{1,15})")


class PostQuery(NamedTuple):
    """One event as it was sent."""

    timestamp_ms: int
    user: bytes
    kind: Kind


def parse_post(query: bytes) -> PostQuery:
    """Return the event that the query of a POST names.

    Args:
        query: What follows the ``?`` of the request target, undecoded.

    Raises:
        InvalidEvent: It is not exactly one valid event.
    """
    plain = _PLAIN_POST.fullmatch(query)
    if plain is not None and (timestamp_ms := int(plain[1])) <= TIMESTAMP_MS_MAX:
        return PostQuery(timestamp_ms, plain[2], Kind.IMPRESSION if plain[3] is None else Kind.CLICK)
    values = _values(query, _POST_PARAMETERS)
    return PostQuery(_timestamp_ms(values), _user(values), _kind(values))


def parse_get(query: bytes) -> int:
    """Return the timestamp in milliseconds that the query of a GET names.

    Args:
        query: What follows the ``?`` of the request target, undecoded.

    Raises:
        InvalidEvent: It is not exactly one valid timestamp.
    """
    plain = _PLAIN_GET.fullmatch(query)
    if plain is not None and (timestamp_ms := int(plain[1])) <= TIMESTAMP_MS_MAX:
        return timestamp_ms
    return _timestamp_ms(_values(query, _GET_PARAMETERS))


def _values(query: bytes, known: frozenset[bytes]) -> dict[bytes, bytes]:
    """Return the value of each parameter, not yet percent-decoded."""
    if b"#" in query:
        raise _raw_hash(query)
    values: dict[bytes, bytes] = {}
    for field in query.split(b"&") if query else ():
        name, _, value = field.partition(b"=")
        if name not in known:
            name = _decoded_name(name, known)
        if name in values:
            raise InvalidEvent(name.decode(), "must be given only once")
        values[name] = value
    return values


def _decoded_name(raw: bytes, known: frozenset[bytes]) -> bytes:
    """Return the known name that ``raw`` spells with percent-encoding."""
    shown = raw[:_NAME_SHOWN_MAX].decode("utf-8", "replace")
    name = _decoded(raw, shown)
    if name in known:
        return name
    if not name:
        raise InvalidEvent("", "a parameter has no name; is there an & too many?")
    allowed = ", ".join(sorted(one.decode() for one in known))
    raise InvalidEvent(shown, f"is not a parameter here; allowed: {allowed}")


def _decoded(raw: bytes, parameter: str) -> bytes:
    """Return the bytes that ``raw`` stands for."""
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" not in raw:
        return raw
    plain, *coded = raw.split(b"%")
    try:
        return plain + b"".join([_BYTE_OF_HEX[piece[:2]] + piece[2:] for piece in coded])
    except KeyError:
        detail = "has a % without two hex digits after it; a % itself is sent as %25"
        raise InvalidEvent(parameter, detail) from None


def _timestamp_ms(values: dict[bytes, bytes]) -> int:
    raw = values.get(b"timestamp")
    if raw is None:
        raise InvalidEvent("timestamp", "is missing")
    digits = _decoded(raw, "timestamp")
    # Not int() alone: it takes a sign, spaces, underscores. isdigit() of bytes knows ASCII only.
    if not digits.isdigit() or len(digits) > _TIMESTAMP_DIGITS_MAX:
        raise InvalidEvent(
            "timestamp", f"must be milliseconds since the Unix epoch, 1 to {_TIMESTAMP_DIGITS_MAX} decimal digits"
        )
    timestamp_ms = int(digits)
    if timestamp_ms > TIMESTAMP_MS_MAX:
        raise invalid(Refusal.HOUR_OUT_OF_RANGE)
    return timestamp_ms


def _user(values: dict[bytes, bytes]) -> bytes:
    raw = values.get(b"user")
    if raw is None:
        raise InvalidEvent("user", "is missing")
    user = _decoded(raw, "user")
    refusal = refusal_of_user(user)
    if refusal is not Refusal.COUNTED:
        raise invalid(refusal)
    return user


def _kind(values: dict[bytes, bytes]) -> Kind:
    click, impression = values.get(b"click"), values.get(b"impression")
    if click is not None and impression is not None:
        raise InvalidEvent("impression", "must not stand beside click; an event is one of the two")
    if click is None and impression is None:
        raise InvalidEvent("click", "or impression must be given")
    if click or impression:
        raise InvalidEvent("click" if click else "impression", "must not have a value")
    return Kind.IMPRESSION if click is None else Kind.CLICK


def _raw_hash(query: bytes) -> InvalidEvent:
    """Return the error for a ``#``: what follows it would be cut off by any other reader of this URL."""
    field = next(field for field in query.split(b"&") if b"#" in field)
    name = field.partition(b"#")[0].partition(b"=")[0]
    return InvalidEvent(name[:_NAME_SHOWN_MAX].decode("utf-8", "replace"), "has a raw #; send it as %23")
