"""Rows of a file: what is sent for each, and what is said about those that are no event."""

import csv
import json
from io import StringIO
from itertools import pairwise, product
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.command.importer.quotes import Quotes
from tally.command.importer.rows import LINE_BYTES_MAX, BadHeader, BadRow, Format, Row, RowParser

HEADER = b"timestamp_ms,user,kind\n"


def parse(*chunks: bytes, form: Format = Format.AUTO) -> list[Row | BadRow]:
    parser = RowParser(form)
    return [*(row for chunk in chunks for row in parser.feed(chunk)), *parser.end()]


def only(data: bytes, form: Format = Format.AUTO) -> Row | BadRow:
    [row] = parse(data, form=form)
    return row


def test_a_csv_row_becomes_a_query_and_keeps_its_line_number() -> None:
    assert parse(HEADER + b"5,ann,click\n6,bob,impression\n") == [
        Row(2, "timestamp=5&user=ann&click"),
        Row(3, "timestamp=6&user=bob&impression"),
    ]


def test_a_json_line_becomes_the_same_query() -> None:
    line = b'{"kind": "click", "user": "ann", "timestamp_ms": 5, "more": [1]}\n'
    assert only(line) == Row(1, "timestamp=5&user=ann&click")
    assert only(line.replace(b" 5,", b' "5",')) == Row(1, "timestamp=5&user=ann&click")


def test_columns_may_stand_in_any_order_among_others() -> None:
    assert only(b"kind, x ,user,timestamp_ms\nclick,-,ann,5\n") == Row(2, "timestamp=5&user=ann&click")


def test_byte_order_mark_line_ends_of_windows_and_blank_lines_do_not_matter() -> None:
    data = b"\xef\xbb\xbf\r\ntimestamp_ms,user,kind\r\n\r\n5,ann,click\r\n  \r\n6,bob,click"
    assert parse(data) == [Row(4, "timestamp=5&user=ann&click"), Row(6, "timestamp=6&user=bob&click")]


def test_a_quoted_field_may_hold_commas_and_quotes() -> None:
    assert only(HEADER + b'5,"a,""b""",click\n') == Row(2, "timestamp=5&user=a%2C%22b%22&click")


def test_a_line_feed_in_a_quoted_field_is_part_of_the_field() -> None:
    """What a visitor typed into a field must not be read as an event of its own."""
    header = b'timestamp_ms,user,kind,"what\nthey said"\r\n'
    data = b'5,ann,click,"first\r\n\n6,mallory,impression,x\nlast ""one"""\r\n7,"b\nob",click,ok\n8,eve,clack,"\n"\n'
    assert parse(header + data) == [
        Row(3, "timestamp=5&user=ann&click"),
        Row(7, "timestamp=7&user=b%0Aob&click"),
        BadRow(9, "kind must be click or impression (the row goes on to line 10)"),
    ]


def test_a_quote_that_is_never_closed_is_told_by_its_line_and_nothing_in_it_is_read() -> None:
    told = "not CSV: a quote in this row is never closed, so nothing from here on was read"
    for end in (b"", b"\n", b"\n7,", b"\n" + b"x" * 10 * LINE_BYTES_MAX):
        assert parse(HEADER + b'5,"ann,click\n6,bob,click' + end) == [BadRow(2, told)]
    with pytest.raises(BadHeader, match="found: a quote that is never closed"):
        parse(b'timestamp_ms,user,"kind\n5,ann,click\n')


@pytest.mark.parametrize("piece", [1_000, LINE_BYTES_MAX, 10 * LINE_BYTES_MAX])
def test_a_quoted_field_that_is_too_long_is_skipped_to_its_end(piece: int) -> None:
    data = HEADER + b'5,ann"s,click\n5,"' + b"6,mallory,click\n" * 10_000 + b'",click\n7,bob,click\n'
    assert parse(*(data[start : start + piece] for start in range(0, len(data), piece))) == [
        Row(2, "timestamp=5&user=ann%22s&click"),
        BadRow(3, "the line is longer than 65,536 bytes (the row goes on to line 10003)"),
        Row(10_004, "timestamp=7&user=bob&click"),
    ]


def test_a_quote_in_the_middle_of_a_long_field_opens_nothing() -> None:
    long = b"x" * (LINE_BYTES_MAX + 1)
    rows = parse(HEADER + b"5,ann" + long, b'",click\n6,bob,click\n')
    assert rows == [BadRow(2, "the line is longer than 65,536 bytes"), Row(3, "timestamp=6&user=bob&click")]


def test_rows_end_where_those_of_python_end() -> None:
    """For every short text: the row goes on if, and only if, Python's csv finds that its data ends too early."""
    for length in range(7):
        for text in map("".join, product('",a\r', repeat=length)):
            quotes = Quotes()
            quotes.feed(text.encode())
            assert quotes.open == goes_on(text), repr(text)


def goes_on(text: str) -> bool:
    try:
        list(csv.reader([text], strict=True))
    except csv.Error as exc:
        return str(exc) == "unexpected end of data"
    return False


CELL = st.text('",\n\r a', max_size=6)


@given(rows=st.lists(st.tuples(CELL, CELL), max_size=6), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_what_python_writes_is_read_as_it_was(rows: list[tuple[str, str]], cuts: list[int]) -> None:
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(["timestamp_ms", "kind", "user", "more"])
    writer.writerows([5, "click", user, more] for user, more in rows)
    data = text.getvalue().encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parsed = parse(*(data[start:end] for start, end in pairwise(edges)))
    assert [row.query for row in parsed if isinstance(row, Row)] == [
        f"timestamp=5&user={quote(user, safe='')}&click" for user, _ in rows
    ]


def test_the_bytes_of_a_name_reach_the_gateway_unchanged() -> None:
    assert only(HEADER + b"5,\xff +&%,click\n") == Row(2, "timestamp=5&user=%FF%20%2B%26%25&click")
    assert only('{"timestamp_ms":5,"user":"é","kind":"click"}'.encode()) == Row(1, "timestamp=5&user=%C3%A9&click")


def test_what_the_gateway_judges_is_passed_on() -> None:
    assert only(HEADER + b"-1,,click\n") == Row(2, "timestamp=-1&user=&click")
    assert only(HEADER + b"1&user=x,ann,click\n") == Row(2, "timestamp=1%26user%3Dx&user=ann&click")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"5,ann", "has 2 fields, the header has 3"),
        (b"5,ann,click,x", "has 4 fields, the header has 3"),
        (b"5,ann,view", "kind must be click or impression"),
        (b"5,ann,click&x", "kind must be click or impression"),
        (b"5,ann, click", "kind must be click or impression"),
        (b'5,"ann"x,click', "not CSV: ',' expected after '\"'"),
    ],
)
def test_a_csv_line_that_is_no_event_says_why(line: bytes, reason: str) -> None:
    assert only(HEADER + line) == BadRow(2, reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[]", "each line must be one JSON object, not part of an array"),
        (b'[{"user": "ann"},', "each line must be one JSON object, not part of an array"),
        (b'{"user": "ann"},', "each line must be one JSON object, and nothing after it"),
        (b"5", "each line must be one JSON object"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"user": "ann", "kind": "click"}', "has no timestamp_ms"),
        (b'{"timestamp_ms": 5.0, "user": "ann", "kind": "click"}', "timestamp_ms must be a whole number"),
        (b'{"timestamp_ms": true, "user": "ann", "kind": "click"}', "timestamp_ms must be a whole number"),
        (b'{"timestamp_ms": 5, "user": null, "kind": "click"}', "user must be a string"),
        (b'{"timestamp_ms": 5, "user": "ann", "kind": ["click"]}', "kind must be click or impression"),
        (b'{"timestamp_ms": 5, "user": "\xff", "kind": "click"}', "not UTF-8"),
        (b'{"x": ' + b"[" * 60_000, "not an event: a number too long, or nested too deeply"),
        (b'{"timestamp_ms": ' + b"1" * 5_000 + b"}", "not an event: a number too long, or nested too deeply"),
    ],
)
def test_a_json_line_that_is_no_event_says_why(line: bytes, reason: str) -> None:
    assert only(line, Format.NDJSON) == BadRow(1, reason)


def test_a_lone_surrogate_is_left_to_the_gateway() -> None:
    assert only(rb'{"timestamp_ms":5,"user":"\ud800","kind":"click"}') == Row(1, "timestamp=5&user=%ED%A0%80&click")


def test_a_line_that_is_too_long_is_skipped_without_keeping_it() -> None:
    parser = RowParser()
    assert list(parser.feed(HEADER)) == []
    for _ in range(3):
        assert list(parser.feed(b"x" * LINE_BYTES_MAX)) == []
    rows = list(parser.feed(b"\n6,bob,click\n"))
    assert rows == [BadRow(2, "the line is longer than 65,536 bytes"), Row(3, "timestamp=6&user=bob&click")]


def test_blanks_in_values_are_passed_on() -> None:
    assert only(HEADER + b" 5, ann ,click\n") == Row(2, "timestamp=%205&user=%20ann%20&click")


def test_a_header_with_blanks_is_refused_by_the_column() -> None:
    with pytest.raises(BadHeader, match="the column ' user' has blanks around its name"):
        parse(b"timestamp_ms, user, kind\n5, ann, click\n")


@pytest.mark.parametrize("data", [b"[\n{}\n]", b'[{"user": "ann"}]'])
def test_a_json_array_is_refused_whole_as_what_it_is(data: bytes) -> None:
    with pytest.raises(BadHeader, match="a JSON array; each line must be one object"):
        parse(data)


LONG_ARRAY = b"[" + b'{"timestamp_ms": 5, "user": "ann", "kind": "click"},' * 2_000 + b"{}]"
LONG_CSV = HEADER.replace(b"\n", b"\r") + b"5,ann,click\r" * 10_000


@pytest.mark.parametrize("end", [b"", b"\n5,ann,click\n"])
@pytest.mark.parametrize("piece", [1_000, LINE_BYTES_MAX, 10 * LINE_BYTES_MAX])
@pytest.mark.parametrize(
    ("first", "form", "guess"),
    [
        (LONG_ARRAY, Format.AUTO, "probably a JSON array; each line must be one object"),
        (b"\xef\xbb\xbf\r\n " + LONG_ARRAY, Format.AUTO, "probably a JSON array; each line must be one object"),
        (LONG_ARRAY, Format.CSV, "probably a JSON array; each line must be one object"),
        (LONG_CSV, Format.AUTO, "each line must end with LF or CRLF"),
        (LONG_CSV, Format.CSV, "each line must end with LF or CRLF"),
    ],
)
def test_a_first_line_that_is_too_long_is_refused_as_what_it_probably_is(
    first: bytes, form: Format, guess: str, piece: int, end: bytes
) -> None:
    data = first + end
    with pytest.raises(BadHeader, match=f"^the first line is longer than 65,536 bytes: .*{guess}$"):
        parse(*(data[start : start + piece] for start in range(0, len(data), piece)), form=form)


def test_a_first_line_that_is_too_long_is_refused_before_its_end_is_there() -> None:
    with pytest.raises(BadHeader):
        list(RowParser().feed(LONG_CSV))


@pytest.mark.parametrize(
    ("first", "form"), [(b'{"user": "', Format.AUTO), (b'{"user": "', Format.NDJSON), (b"[", Format.NDJSON)]
)
def test_a_first_object_that_is_too_long_costs_one_row(first: bytes, form: Format) -> None:
    too_long = BadRow(1, "the line is longer than 65,536 bytes")
    first += b"x" * LINE_BYTES_MAX
    assert parse(first, form=form) == [too_long]
    event = b'{"timestamp_ms": 5, "user": "ann", "kind": "click"}'
    assert parse(first, b"x\n" + event, form=form) == [too_long, Row(2, "timestamp=5&user=ann&click")]


@pytest.mark.parametrize(
    "header", [b"5,ann,click\n", b"timestamp_ms,user\n", b"user,user,timestamp_ms,kind\n", b'"', b""]
)
def test_csv_without_its_columns_is_refused_whole(header: bytes) -> None:
    with pytest.raises(BadHeader, match="must name the columns timestamp_ms, user, kind"):
        parse(header)


def test_empty_ndjson_is_no_error() -> None:
    assert parse(b"", form=Format.NDJSON) == []


@given(users=st.lists(st.text(max_size=20)), cuts=st.lists(st.integers(0, 500)))
def test_it_does_not_matter_where_chunks_are_cut(users: list[str], cuts: list[int]) -> None:
    lines = [json.dumps({"timestamp_ms": 1, "user": user, "kind": "click"}) for user in users]
    data = "\n".join(lines).encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:end] for start, end in pairwise(edges)]
    assert parse(*chunks, form=Format.NDJSON) == parse(data, form=Format.NDJSON)
    assert len(parse(data, form=Format.NDJSON)) == len(users)
