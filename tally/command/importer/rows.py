"""From the bytes of a CSV or NDJSON file to requests, as the bytes come.

Pure. What every row must have is checked here: that it is a row, with three fields. Whether a value can be counted
is left to the gateway, which knows best: values are passed on byte for byte.
"""

import csv
import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import quote_from_bytes

from tally.command.importer.quotes import Quotes
from tally.errors import TallyError

FIELDS: Final = ("timestamp_ms", "user", "kind")
LINE_BYTES_MAX: Final = 65_536
_ONE_OBJECT: Final = "each line must be one JSON object"
_BOM: Final = b"\xef\xbb\xbf"


class Format(StrEnum):
    """How rows are written."""

    AUTO = "auto"
    CSV = "csv"
    NDJSON = "ndjson"


class Row(NamedTuple):
    """One event to send.

    Attributes:
        line: Where it begins in the file, from 1.
        query: The query string of its request, percent-encoded.
    """

    line: int
    query: str


class BadRow(NamedTuple):
    """A row that is no event; ``line`` is where it begins."""

    line: int
    reason: str


class BadHeader(TallyError):
    """The first line says that no row of this file can be read; nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class _NoEvent(Exception):
    """A line is no event; the text says why."""


class RowParser:
    """Turns bytes into rows. A row is a line, and goes on where a quoted field of CSV does; blank lines are skipped."""

    def __init__(self, form: Format = Format.AUTO) -> None:
        self._form = form
        self._parse: Callable[[bytes], str] | None = None
        self._lines = 0  # That are complete.
        self._rest = b""  # Of the present line, what is not in the row yet.
        self._begin_row()

    def _begin_row(self) -> None:
        self._line = 0  # Where the present row began; 0: nothing of it is there.
        self._row: list[bytes] = []
        self._row_bytes = 0
        self._too_long = False  # The present row is; what is left of it is skipped.
        self._quotes = Quotes()

    @property
    def line(self) -> int:
        """The line in which the row begins that the bytes so far end in."""
        return self._line or self._lines + 1

    def feed(self, chunk: bytes) -> Iterator[Row | BadRow]:
        """Take bytes in and give the rows that they complete.

        Raises:
            BadHeader: It is CSV whose first line does not name the columns, or no format that is known, or the first
                line is too long for a header.
        """
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = b""  # Not twice, if the caller stops in the middle.
        for line in lines:
            yield from self._take(line)
        self._rest = rest
        if len(rest) > LINE_BYTES_MAX:
            self._add(rest, is_line=False)
            self._rest = b""

    def end(self) -> Iterator[Row | BadRow]:
        """Give the row of a last line that has no line feed.

        Raises:
            BadHeader: It is CSV whose first line does not name the columns, or there is none.
        """
        rest, self._rest = self._rest, b""
        yield from self._take(rest)
        if self._line and self._parse is None:
            raise _no_columns("a quote that is never closed")
        if self._line:
            yield BadRow(self._line, "not CSV: a quote in this row is never closed, so nothing from here on was read")
            self._begin_row()
        if self._parse is None and self._form is not Format.NDJSON:
            raise _no_columns("nothing, the input is empty")

    def _take(self, line: bytes) -> Iterator[Row | BadRow]:
        """Take the end of a line in, and give its row if that is complete."""
        self._add(line, is_line=not self._line)
        self._lines += 1
        if self._quotes.open:
            self._add(b"\n", is_line=False)
            return
        begin, row, too_long = self._line, b"".join(self._row), self._too_long
        self._begin_row()
        if too_long:
            yield BadRow(begin, f"the line is longer than {LINE_BYTES_MAX:,} bytes{self._up_to(begin)}")
            return
        row = row.removesuffix(b"\r")
        if not row.strip():
            return
        if self._parse is None:
            self._parse, is_header = _choose(self._form, row)
            if is_header:
                return
        try:
            yield Row(begin, self._parse(row))
        except _NoEvent as exc:
            yield BadRow(begin, f"{exc}{self._up_to(begin)}")

    def _add(self, piece: bytes, *, is_line: bool) -> None:
        """Add to the present row some of it, or all of a line; find out whether a quote is open at its end."""
        if not self._line:
            self._line = self._lines + 1
            if self._line == 1:
                piece = piece.removeprefix(_BOM)
            if self._form is Format.AUTO:
                self._form = _form_of(piece)
        if self._form is Format.CSV and not (is_line and b'"' not in piece):  # Most lines have none.
            self._quotes.feed(piece)
        self._row_bytes += len(piece)
        if self._row_bytes > LINE_BYTES_MAX:
            self._too_long = True
            if self._parse is None:  # If it is the first, its beginning is all that tells the format.
                self._parse = _choose_by_too_long(self._form, piece)
        if self._too_long:
            self._row.clear()
        else:
            self._row.append(piece)

    def _up_to(self, begin: int) -> str:
        """Say where a row ends that has several lines."""
        return f" (the row goes on to line {self._lines})" if self._lines > begin else ""


def _form_of(beginning: bytes) -> Format:
    """Return how the rows of a file are written that begins like this; AUTO if that does not tell it, or refuses it."""
    first = beginning.lstrip()[:1]
    return {b"{": Format.NDJSON, b"": Format.AUTO, b"[": Format.AUTO}.get(first, Format.CSV)


def _choose(form: Format, first: bytes) -> tuple[Callable[[bytes], str], bool]:
    """Return what reads the rows of this file, and whether ``first`` was its header."""
    if form is Format.NDJSON:
        return _query_of_json, False
    if form is Format.AUTO and first.lstrip().startswith(b"["):
        raise BadHeader("it is a JSON array; each line must be one object")
    return _csv_parser(first), True


def _choose_by_too_long(form: Format, beginning: bytes) -> Callable[[bytes], str]:
    """Return what reads the rows of this file, if a first line that is too long may be one of them."""
    beginning = beginning.lstrip()
    if form is Format.NDJSON:
        return _query_of_json
    guess = "each line must end with LF or CRLF"
    if beginning.startswith(b"["):
        guess = "it is probably a JSON array; each line must be one object"
    raise BadHeader(f"the first line is longer than {LINE_BYTES_MAX:,} bytes: {guess}")


def _csv_parser(header: bytes) -> Callable[[bytes], str]:
    try:
        names = _split(header)
    except _NoEvent as exc:
        raise _no_columns(str(exc)) from exc
    for name in names:
        # Not trimmed: the values have such blanks too, and there they may belong to a name.
        if name not in FIELDS and name.strip() in FIELDS:
            raise BadHeader(f"the column {name!r} has blanks around its name; take them out, and out of the values too")
    if any(names.count(field) != 1 for field in FIELDS):
        raise _no_columns(ascii(",".join(names)[:200]))
    at_timestamp, at_user, at_kind = (names.index(field) for field in FIELDS)

    def query_of_csv(line: bytes) -> str:
        fields = _split(line)
        if len(fields) != len(names):
            raise _NoEvent(f"has {len(fields)} fields, the header has {len(names)}")
        return _query(fields[at_timestamp], fields[at_user].encode(errors="surrogateescape"), fields[at_kind])

    return query_of_csv


def _no_columns(found: str) -> BadHeader:
    return BadHeader(f"the first line must name the columns {', '.join(FIELDS)} (in any order); found: {found}")


def _split(line: bytes) -> list[str]:
    # Bytes that are not UTF-8 go through unchanged, and the gateway refuses the name that has them.
    try:
        return next(csv.reader([line.decode(errors="surrogateescape")], strict=True))
    except csv.Error as exc:
        raise _NoEvent(f"not CSV: {exc}") from exc


def _object(line: bytes) -> dict[str, Any]:
    if line.lstrip().startswith(b"["):
        raise _NoEvent(f"{_ONE_OBJECT}, not part of an array")
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        raise _NoEvent("not UTF-8") from None
    except json.JSONDecodeError as exc:
        if exc.msg == "Extra data":
            raise _NoEvent(f"{_ONE_OBJECT}, and nothing after it") from exc
        raise _NoEvent(f"not JSON: {exc.msg} at column {exc.colno}") from exc
    except (ValueError, RecursionError):
        raise _NoEvent("not an event: a number too long, or nested too deeply") from None
    if not isinstance(value, dict):
        raise _NoEvent(_ONE_OBJECT)
    return value


def _query_of_json(line: bytes) -> str:
    value = _object(line)
    for field in FIELDS:
        if field not in value:
            raise _NoEvent(f"has no {field}")
    timestamp, user, kind = (value[field] for field in FIELDS)
    if type(timestamp) is not int and not isinstance(timestamp, str):  # bool is an int too.
        raise _NoEvent("timestamp_ms must be a whole number")
    if not isinstance(user, str):
        raise _NoEvent("user must be a string")
    # A lone surrogate, "\ud800", is legal JSON and no UTF-8: the gateway says so.
    return _query(str(timestamp), user.encode(errors="surrogatepass"), kind)


def _query(timestamp: str, user: bytes, kind: object) -> str:
    if kind not in ("click", "impression"):
        raise _NoEvent("kind must be click or impression")
    # Only what is no digit can need quoting, and that is rare.
    when = timestamp if timestamp.isalnum() and timestamp.isascii() else _quoted(timestamp)
    return f"timestamp={when}&user={quote_from_bytes(user, safe='')}&{kind}"


def _quoted(text: str) -> str:
    return quote_from_bytes(text.encode(errors="surrogatepass"), safe="")
