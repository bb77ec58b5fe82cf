"""From an event and its facts to one line: never an error, never longer than ``LINE_BYTES_MAX``, never two lines.

Pure but for the clock.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from structlog.typing import EventDict

TEXT_MAX: Final = 4096  # Characters of one value.
TRACE_MAX: Final = 8192  # Of a traceback: its begin and its end.
ITEMS_MAX: Final = 512
LINE_BYTES_MAX: Final = 64 * 1024

# C0, DEL, C1, the two other line ends, what turns the direction of writing, halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_IN_TRACE: Final = re.compile("(?!\n)" + _UNPRINTABLE.pattern)

Render = Callable[[EventDict], str]


def escaped(text: str) -> str:
    """Return ``text`` as it may stand in a line on a terminal."""
    return _UNPRINTABLE.sub(_escape, text)


def _escape(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def plain(value: Any) -> Any:
    """Return a value that can be written, however large or odd ``value`` is."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        return shortened(str(value), TEXT_MAX)
    if isinstance(value, Mapping) and len(value) <= ITEMS_MAX:
        return {shortened(str(key), TEXT_MAX): _item(one) for key, one in value.items()}
    if isinstance(value, list | tuple) and len(value) <= ITEMS_MAX:
        return [_item(one) for one in value]
    return _shown(value)


def _item(value: Any) -> Any:
    return plain(value) if value is None or isinstance(value, str | int | float) else _shown(value)


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value), TEXT_MAX)
    except Exception as exc:  # noqa: BLE001 - Whatever its repr does, the line is written.
        return f"a {type(value).__name__} whose repr raised {type(exc).__name__}"


def shortened(text: str, most: int) -> str:
    """Return ``text``, or its begin and its end if it has more than ``most`` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters ... {text[-half:]}"


def line_of(facts: EventDict, render: Render) -> bytes:
    """Return the line for an event; what can't be rendered is said in fewer words."""
    try:
        trace = facts.pop("exception", None)
        clean: dict[str, Any] = {str(name): plain(value) for name, value in facts.items()}
        if trace:
            clean["exception"] = shortened(str(trace), TRACE_MAX)
        line = render(clean).encode(errors="backslashreplace")
    except Exception as exc:  # noqa: BLE001 - A log call never raises.
        return bare_line(facts.get("event"), problem=type(exc).__name__)
    return line + b"\n" if len(line) < LINE_BYTES_MAX else bare_line(facts.get("event"), problem=f"{len(line)} bytes")


def bare_line(event: object, **facts: object) -> bytes:
    """Return a line of the simplest form. Never raises: ``facts`` are ours, text or numbers."""
    name = event[:200] if type(event) is str else "unnamed"
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return (json.dumps({"event": name, "level": "error", "timestamp": now, **facts}) + "\n").encode()


def as_json(facts: EventDict) -> str:
    """Render as JSON, in ASCII: all else is escaped."""
    return json.dumps(facts)


def as_text(*, colours: bool) -> Render:
    """Return what renders for people who look at a terminal."""
    console = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)

    def render(facts: EventDict) -> str:
        trace = facts.pop("exception", None)
        shown: EventDict = {name: escaped(value) if isinstance(value, str) else value for name, value in facts.items()}
        line = str(console(None, "", shown))
        return line if trace is None else f"{line}\n{_IN_TRACE.sub(_escape, trace)}"

    return render
