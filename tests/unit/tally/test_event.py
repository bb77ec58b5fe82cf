"""What a valid event is: one answer for gateways and shards."""

import re
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.errors import InvalidEvent
from tally.event import (
    HOUR_MAX,
    TIMESTAMP_MS_MAX,
    Kind,
    Refusal,
    check_key,
    invalid,
    key_hash,
    refusal_of,
    refusal_of_user,
)
from tally.hashing import hour_of

CLICK = Kind.CLICK


@pytest.mark.parametrize(
    ("hour", "user", "kind", "expected"),
    [
        (0, b"ann", Kind.CLICK, Refusal.COUNTED),
        (HOUR_MAX, b"ann", Kind.IMPRESSION, Refusal.COUNTED),
        (-1, b"ann", CLICK, Refusal.HOUR_OUT_OF_RANGE),
        (HOUR_MAX + 1, b"ann", CLICK, Refusal.HOUR_OUT_OF_RANGE),
        (0, b"ann", 0, Refusal.KIND_UNKNOWN),
        (0, b"ann", 3, Refusal.KIND_UNKNOWN),
        (0, b"", CLICK, Refusal.USER_EMPTY),
        (0, b"x" * 256, CLICK, Refusal.COUNTED),
        (0, b"x" * 257, CLICK, Refusal.USER_TOO_LONG),
        (0, "ë".encode() * 128, CLICK, Refusal.COUNTED),
        (0, "ë".encode() * 129, CLICK, Refusal.USER_TOO_LONG),
        (0, b"\xff", CLICK, Refusal.USER_NOT_UTF8),
        (0, "ë".encode()[:1], CLICK, Refusal.USER_NOT_UTF8),
        (0, b"\xc0\xaf", CLICK, Refusal.USER_NOT_UTF8),  # An overlong spelling of "/".
        (0, b"\xed\xa0\x80", CLICK, Refusal.USER_NOT_UTF8),  # Half of a surrogate pair.
        (0, b" ", CLICK, Refusal.COUNTED),
        (0, "😀".encode(), CLICK, Refusal.COUNTED),
    ],
)
def test_event_is_counted_or_refused_for_its_reason(hour: int, user: bytes, kind: int, expected: Refusal) -> None:
    assert refusal_of(hour, user, kind) is expected


@pytest.mark.parametrize("byte", [*range(0x20), 0x7F])
def test_control_byte_anywhere_in_a_name_is_refused(byte: int) -> None:
    control = bytes([byte])
    for user in (control, b"a" + control, control + b"a", "ë".encode() + control):
        assert refusal_of_user(user) is Refusal.USER_HAS_CONTROL_BYTES


def test_two_spellings_of_one_name_are_two_valid_names() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoë").encode() for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert refusal_of_user(composed) is refusal_of_user(decomposed) is Refusal.COUNTED


@pytest.mark.parametrize("codepoint", range(0x80, 0xA0))
def test_c1_control_anywhere_in_a_name_is_refused(codepoint: int) -> None:
    control = chr(codepoint)
    for user in (control, "a" + control, control + "a", "ë" + control):
        assert refusal_of(0, user.encode(), CLICK) is Refusal.USER_HAS_CONTROL_BYTES


@pytest.mark.parametrize("user", ["\xa0", "\u202eann", "a\u2066b", "\u200b", "Â\xa0", "\u0700"])
def test_odd_character_that_no_terminal_obeys_is_counted(user: str) -> None:
    assert refusal_of(0, user.encode(), CLICK) is Refusal.COUNTED


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_of_the_right_length_without_control_characters_is_a_name(text: str) -> None:
    user = text.encode()
    assert refusal_of_user(user) is (Refusal.COUNTED if len(user) <= 256 else Refusal.USER_TOO_LONG)


@given(st.binary(max_size=300))
def test_what_is_counted_can_be_shown(user: bytes) -> None:
    if refusal_of_user(user) is Refusal.COUNTED:
        assert user.decode().encode() == user


def test_last_hour_holds_the_last_timestamp() -> None:
    assert hour_of(TIMESTAMP_MS_MAX) == HOUR_MAX


@pytest.mark.parametrize("refusal", [one for one in Refusal if one is not Refusal.COUNTED])
def test_every_refusal_is_explained_with_its_parameter(refusal: Refusal) -> None:
    assert invalid(refusal).parameter in {"timestamp", "user", "kind"}
    assert str(invalid(refusal)).startswith(invalid(refusal).parameter)


def test_numbers_on_the_wire_and_on_disk_stay() -> None:
    assert [(one.name, one.value) for one in Refusal] == [
        ("COUNTED", 0),
        ("HOUR_OUT_OF_RANGE", 1),
        ("USER_EMPTY", 2),
        ("USER_TOO_LONG", 3),
        ("USER_NOT_UTF8", 4),
        ("USER_HAS_CONTROL_BYTES", 5),
        ("KIND_UNKNOWN", 6),
        ("OTHER_SLOT", 7),
    ]
    assert (Kind.CLICK, Kind.IMPRESSION) == (1, 2)


# Idempotency keys.


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "8e03978e-40d5-43e8-bc93-6894a57f9324",
        '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
        "order 7, line 3",
        "a,b",
        "!~",
        "k" * 128,
        "k" + " " * 126 + "k",
    ],
)
def test_printable_ascii_is_a_key(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize(
    "key", ["", " ", " a", "a ", "k" * 129, "a\tb", "a\nb", "a\n", "a\x00", "a\x7f", "é", "１", "a\udcff", "a\u2028"]
)
def test_anything_else_is_refused_and_names_the_header(key: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        check_key(key)
    assert raised.value.parameter == "Idempotency-Key"


def test_key_is_not_repeated_to_anybody() -> None:
    with pytest.raises(InvalidEvent) as raised:
        check_key("secret\t")
    assert "secret" not in str(raised.value)


@given(st.text(max_size=140))
def test_key_that_is_accepted_can_be_a_header_and_survives_it(key: str) -> None:
    with suppress(InvalidEvent):
        check_key(key)
        assert re.fullmatch("[\x20-\x7e]{1,128}", key)
        assert key.strip() == key


keyed_events = st.tuples(
    st.sampled_from(["k", "kk", "ann", "annk"]),
    st.sampled_from([0, 1, 256, HOUR_MAX]),
    st.sampled_from([b"ann", b"annk", b"a", b"k", b"kk" * 128]),
    st.sampled_from(Kind),
)


@given(keyed_events, keyed_events)
def test_hash_tells_key_and_event_apart(one: tuple[str, int, bytes, Kind], other: tuple[str, int, bytes, Kind]) -> None:
    assert (key_hash(*one) == key_hash(*other)) == (one == other)


def test_hash_stays_what_it_is() -> None:
    """Keys on disk, and gateways of two versions, depend on it."""
    assert key_hash("key-1", 478_000, b"ann", Kind.CLICK).hex() == "5166d403c67c79e3db0332c7998972e8"
