"""The query parser: each row of the table in README, "HTTP", and that no bytes at all get past it unnoticed."""

from contextlib import suppress
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.query import PostQuery, parse_get, parse_post
from tally.errors import InvalidEvent
from tally.event import TIMESTAMP_MS_MAX, USER_BYTES_MAX, Kind, Refusal, refusal_of_user

T = b"timestamp=1700000000000"

NAMES = st.binary(min_size=1, max_size=USER_BYTES_MAX) | st.text(min_size=1, max_size=64).map(
    lambda text: text.encode("utf-8", "replace")
)
USERS = NAMES.filter(lambda user: refusal_of_user(user) is Refusal.COUNTED)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (T + b"&user=ann&click", PostQuery(1_700_000_000_000, b"ann", Kind.CLICK)),
        (T + b"&user=ann&impression", PostQuery(1_700_000_000_000, b"ann", Kind.IMPRESSION)),
        (T + b"&user=ann&click=", PostQuery(1_700_000_000_000, b"ann", Kind.CLICK)),
        (b"click&user=ann&" + T, PostQuery(1_700_000_000_000, b"ann", Kind.CLICK)),
        (b"timestamp=0&user=a&click", PostQuery(0, b"a", Kind.CLICK)),
        (b"timestamp=000000000000001&user=a&click", PostQuery(1, b"a", Kind.CLICK)),
        (b"timestamp=253402300799999&user=a&click", PostQuery(TIMESTAMP_MS_MAX, b"a", Kind.CLICK)),
        (b"timestamp=%31%32&user=a&click", PostQuery(12, b"a", Kind.CLICK)),
    ],
)
def test_good_event(query: bytes, expected: PostQuery) -> None:
    assert parse_post(query) == expected


@pytest.mark.parametrize(
    ("spelled", "user"),
    [
        (b"ann+smith", b"ann smith"),
        (b"ann%20smith", b"ann smith"),
        (b"1%2B1", b"1+1"),
        (b"a=b", b"a=b"),
        (b"a%26b", b"a&b"),
        (b"a%23b", b"a#b"),
        (b"100%25", b"100%"),
        (b"%C3%A9", "é".encode()),
        (b"%c3%A9", "é".encode()),
        ("é".encode(), "é".encode()),
        (b"e%CC%81", b"e\xcc\x81"),
        (b"?", b"?"),
        (b"a;b", b"a;b"),
        (b"%F0%9F%98%80", "😀".encode()),
        (b"u" * USER_BYTES_MAX, b"u" * USER_BYTES_MAX),
        (b"%41" * USER_BYTES_MAX, b"A" * USER_BYTES_MAX),
    ],
)
def test_user_is_decoded_to_exact_bytes(spelled: bytes, user: bytes) -> None:
    assert parse_post(T + b"&click&user=" + spelled).user == user


@pytest.mark.parametrize("name", [b"%75ser", b"use%72", b"%75%73%65%72"])
def test_encoded_name_is_the_same_parameter(name: bytes) -> None:
    assert parse_post(T + b"&click&" + name + b"=ann").user == b"ann"
    with pytest.raises(InvalidEvent, match="only once"):
        parse_post(T + b"&click&user=bob&" + name + b"=ann")


BAD_TIMESTAMPS = [
    b"",
    b"-1",
    b"+1",
    b"1_000",
    b"1.5",
    b"1e3",
    b" 1",
    b"1%20",
    b"0x10",
    "１２".encode(),
    "١".encode(),
    b"%EF%BC%91",
    b"1000000000000000",
    b"0000000000000001",
    b"253402300800000",
    b"999999999999999",
    b"%",
    b"1%0",
]


@pytest.mark.parametrize("value", BAD_TIMESTAMPS)
def test_bad_timestamp(value: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_get(b"timestamp=" + value)
    assert caught.value.parameter == "timestamp"
    with pytest.raises(InvalidEvent) as caught:
        parse_post(b"user=ann&click&timestamp=" + value)
    assert caught.value.parameter == "timestamp"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        (b"", "timestamp"),
        (b"user=ann&click", "timestamp"),
        (T + b"&" + T + b"&user=ann&click", "timestamp"),
        (T + b"&click", "user"),
        (T + b"&click&user", "user"),
        (T + b"&click&user=", "user"),
        (T + b"&click&user=a&user=a", "user"),
        (T + b"&click&user=" + b"u" * (USER_BYTES_MAX + 1), "user"),
        (T + b"&click&user=%ff", "user"),
        (T + b"&click&user=\xff", "user"),
        (T + b"&click&user=%C3", "user"),
        (T + b"&click&user=%ED%A0%80", "user"),  # A surrogate is not UTF-8.
        (T + b"&click&user=%C0%80", "user"),  # Nor is a long way to write NUL.
        (T + b"&click&user=%00", "user"),
        (T + b"&click&user=a%0Ab", "user"),
        (T + b"&click&user=%7F", "user"),
        (T + b"&click&user=%", "user"),
        (T + b"&click&user=a%2", "user"),
        (T + b"&click&user=a%2g", "user"),
        (T + b"&click&user=%%41", "user"),
        (T + b"&click&user=%+1", "user"),
        (T + b"&click&user=a#b", "user"),
        (T + b"&user=ann", "click"),
        (T + b"&user=ann&click&impression", "impression"),
        (T + b"&user=ann&click&click", "click"),
        (T + b"&user=ann&impression=&impression", "impression"),
        (T + b"&user=ann&click=1", "click"),
        (T + b"&user=ann&click=%", "click"),
        (T + b"&user=ann&impression=true", "impression"),
        (T + b"&user=ann&click#", "click"),
        (T + b"&user=ann&click&kind=1", "kind"),
        (T + b"&user=ann&Click", "Click"),
        (T + b"&user=ann&click&us%er=1", "us%er"),
        (T + b"&user=ann&click&\xff=1", "\ufffd"),
    ],
)
def test_refusal_names_the_parameter(query: bytes, parameter: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_post(query)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("query", [T + b"&&user=a&click", T + b"&user=a&click&", b"&" + T, T + b"&user=a&click&=1"])
def test_parameter_without_a_name_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidEvent, match="no name"):
        parse_post(query)


@pytest.mark.parametrize("more", [b"&user=ann", b"&click", b"&x=1", b"&timestamp=1", b"&"])
def test_question_takes_a_timestamp_only(more: bytes) -> None:
    assert parse_get(T) == 1_700_000_000_000
    with pytest.raises(InvalidEvent):
        parse_get(T + more)


@given(USERS, st.data())
def test_any_valid_user_survives_percent_encoding(user: bytes, data: st.DataObject) -> None:
    """Whatever of it the client chooses to encode."""
    encoded = quote_from_bytes(user, safe="")
    partly = quote_from_bytes(user, safe=data.draw(st.sampled_from(["/", ":@!$'()*,;?~="])))
    everything = "".join(f"%{byte:02x}" for byte in user)
    for spelled in (encoded, partly, everything, encoded.replace("%20", "+")):
        assert parse_post(T + b"&click&user=" + spelled.encode()).user == user


PLAIN_USERS = st.text("abcXYZ019._~-%+é", max_size=260).map(str.encode)


@given(
    st.from_regex(r"[0-9]{0,17}", fullmatch=True), PLAIN_USERS, st.sampled_from([b"click", b"impression", b"click="])
)
@example("253402300799999", b"ann", b"click")
@example("253402300800000", b"ann", b"click")
@example("1", b"a" * 256, b"click")
@example("1", b"a" * 257, b"click")
def test_usual_order_of_parameters_means_what_any_order_means(digits: str, user: bytes, kind: bytes) -> None:
    """It has a way of its own through the parser."""

    def told(*fields: bytes) -> PostQuery | str:
        try:
            return parse_post(b"&".join(fields))
        except InvalidEvent as exc:
            return str(exc)

    time, name = b"timestamp=" + digits.encode(), b"user=" + user
    assert told(time, name, kind) == told(kind, name, time)


@given(st.binary(max_size=300))
@example(b"timestamp=%")
@example(b"%=&%=")
def test_any_bytes_are_answered_or_refused(query: bytes) -> None:
    for parse in (parse_get, parse_post):
        with suppress(InvalidEvent):
            parse(query)


FRAGMENTS = [b"timestamp", b"user", b"click", b"impression", b"=", b"&", b"%", b"#", b"+", b"1", b"a", b"%75", b"\xff"]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join))
def test_what_is_accepted_is_valid(query: bytes) -> None:
    try:
        found = parse_post(query)
    except InvalidEvent:
        return
    assert 0 <= found.timestamp_ms <= TIMESTAMP_MS_MAX
    assert refusal_of_user(found.user) is Refusal.COUNTED
    assert query.count(b"click") + query.count(b"impression") >= 1
