"""When a line is sent again, how soon, and until when. Pure: time and jitter are arguments.

A line is sent with the same key until its answer is definite, so it makes no difference whether an attempt that was
not answered has arrived.
"""

import json
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

from tally.printable import printable

GIVE_UP_AFTER_S: Final = 600
GIVE_UP_AFTER_S_MAX: Final = 86_400
# A key is known for this long after its event was counted, at least: then no attempt may be repeated any more.
KEY_KNOWN_S: Final = 86_400.0

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 2.0
_RETRY_AFTER_S_MAX: Final = 30.0
_SAID_AFTER_S: Final = 1.0
# With these a gateway refuses an event for good. Its other 4xx say that the request was not looked at.
_REFUSALS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)
_PROBLEM: Final = "application/problem+json"


class Verdict(Enum):
    """What an answer says of its event."""

    COUNTED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


def verdict_of(status: int, content_type: str = "", body: bytes = b"") -> Verdict:
    """Say what an answer means; what no gateway would answer says nothing.

    A proxy on the way has a 400 or a 404 of its own, such as when it has no gateway at the moment: only the document
    that a gateway refuses with is its verdict.

    Args:
        status: Of the answer.
        content_type: Its header, with or without parameters.
        body: Of the answer.
    """
    if status == HTTPStatus.NO_CONTENT:
        return Verdict.COUNTED
    if status in _REFUSALS and content_type.partition(";")[0].strip().lower() == _PROBLEM and _is_ours(status, body):
        return Verdict.REFUSED
    return Verdict.UNKNOWN


def _is_ours(status: int, body: bytes) -> bool:
    """Whether a document tells of a problem as a gateway of Tally does."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(found, dict)
        and (found.get("type"), found.get("title"), found.get("status"))
        == ("about:blank", HTTPStatus(status).phrase, status)
        and isinstance(found.get("detail"), str)
    )


def explain(verdict: Verdict, status: int, body: bytes) -> str:
    """Say why a row was not counted, or not yet, from what was answered. Pure."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = None
    if isinstance(detail, str):
        # Whatever answered, it shall not write control characters to a terminal.
        detail = printable(detail)
        return detail if verdict is Verdict.REFUSED else f"{status}, {detail}"
    return f"{status} from what is no gateway" if 400 <= status < 500 else f"{status}, no reason given"


def pause_s(attempts: int, retry_after: str | None, jitter: float) -> float:
    """Return how long to wait after so many attempts at a line, from 1.

    Args:
        attempts: How many there were.
        retry_after: The header of the last answer, if it had one; a date is not understood, and does no harm.
        jitter: In [0, 1).
    """
    longest = min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempts - 1, 10))
    wait = longest * (0.5 + 0.5 * jitter)
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        # On top of it: those who were sent away together do not come back together.
        wait += min(_RETRY_AFTER_S_MAX, float(retry_after))
    return wait


class Patience:
    """Waits for a gateway on behalf of all lines: says so once, and knows when to give up.

    Its clock runs while attempts fail and no line at all is answered, so neither a pipe that has nothing to give nor
    one line among others uses it up.
    """

    def __init__(self, give_up_after_s: float) -> None:
        self._give_up_after_s = give_up_after_s
        self._failing_since: float | None = None
        self._said = False

    def failed(self, now: float, reason: str) -> str:
        """Hear that an attempt failed; return what to say about it, mostly nothing."""
        if self._failing_since is None:
            self._failing_since = now
        if self._said or now - self._failing_since < _SAID_AFTER_S:
            return ""
        self._said = True
        return f"nothing is counted at the moment ({reason}); sending again, for up to {self._give_up_after_s:,g} s"

    def answered(self) -> str:
        """Hear that a line has its definite answer; return what to say about it, mostly nothing."""
        self._failing_since = None
        if not self._said:
            return ""
        self._said = False
        return "counting again"

    def is_over(self, now: float) -> bool:
        """Say whether it is no use to go on."""
        return self._failing_since is not None and now - self._failing_since >= self._give_up_after_s
