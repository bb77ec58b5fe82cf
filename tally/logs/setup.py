"""Puts the parts of a process's log together, and leads into it what Python and its libraries have to say.

One process has one log: this is the only module here with a state of its own.
"""

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from tally.logs import streams
from tally.logs.backlog import Backlog
from tally.logs.bounds import FROM_OUTSIDE, OFTEN, USUAL, Bounds
from tally.logs.lines import Render, as_json, as_text, bare_line, line_of
from tally.logs.writer import Writer, no_chores
from tally.terminal import has_colours

LINES_MAX: Final = 4096
BYTES_MAX: Final = 4 * 2**20
FLUSH_S: Final = 1.0  # How long the end of a process may wait for its log.
LEVELS: Final = ("debug", "info", "warning", "error")

# What a request, a connection, a peer that is none, or a library that was given rubbish leads to.
_FROM_OUTSIDE: Final = (
    "call_failed",
    "connection_failed",
    "impossible_message_refused",
    "library_says",
    "request_failed",
    "request_refused",
    "shard_is_another",
    "stream_failed",
    "stream_refused",
    "strangers_refused",
)
# What every change of the map leads to; while a shard is added, there are many a second.
_OF_EACH_MAP: Final = ("controller_planned", "map_adopted", "map_written")
_RATES: Final = {**dict.fromkeys(_FROM_OUTSIDE, FROM_OUTSIDE), **dict.fromkeys(_OF_EACH_MAP, OFTEN)}

log = structlog.get_logger()


class _Log:
    """The log of this process."""

    def __init__(self) -> None:
        self.process = ""
        self.bounds = Bounds()
        self.render: Render = as_json
        self.backlog = Backlog(lines_max=LINES_MAX, bytes_max=BYTES_MAX, tell=self._dropped_line)
        self.writers: list[Writer] = []

    def write_to(self, descriptor: int, backlog: Backlog, chores: Callable[[], None]) -> None:
        """Begin to write a backlog."""
        writer = Writer(descriptor, backlog, chores=chores)
        writer.start()
        self.writers.append(writer)

    def tell_held_back(self, *, at_once: bool = False) -> None:
        """Log of which events lines were held back, once more of them may be logged."""
        for name, count in self.bounds.due(time.monotonic(), at_once=at_once).items():
            self.backlog.put(self._own_line("log_lines_held_back", "info", of=name, lines=count))

    def _dropped_line(self, count: int) -> bytes:
        return self._own_line("log_lines_dropped", "warning", lines=count)

    def _own_line(self, event: str, level: str, **facts: object) -> bytes:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return line_of(
            {**facts, "event": event, "process": self.process, "level": level, "timestamp": now}, self.render
        )

    # Processors of structlog.

    def bound(self, _logger: WrappedLogger, _method: str, facts: EventDict) -> EventDict:
        """Let an event through, or hold it back."""
        event = facts["event"]
        name = f"{event}:{facts['library']}" if "library" in facts else str(event)
        held_back = self.bounds.admit(name, time.monotonic(), _RATES.get(str(event), USUAL))
        if held_back is None:
            raise structlog.DropEvent
        if held_back:
            facts["held_back"] = held_back
        return facts

    def name(self, _logger: WrappedLogger, _method: str, facts: EventDict) -> EventDict:
        """Say which process it is."""
        facts["process"] = self.process
        return facts

    def line(self, _logger: WrappedLogger, _method: str, facts: EventDict) -> bytes:
        """Make a line."""
        return line_of(facts, self.render)

    def print(self, line: bytes) -> None:
        """Take in a line that Python, a library or click wrote to stderr."""
        held_back = self.bounds.admit("stderr", time.monotonic(), USUAL)
        if held_back is not None:
            self.backlog.put(line)


class _Sink:
    """What structlog hands lines to."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = self.msg = put


_log = _Log()


def configure(process: str, level: str = "info") -> None:
    """Set up logging for this process, once, before anything else.

    Args:
        process: What is on each line: ``gateway``, ``shard s1``.
        level: The least that is logged; one of ``LEVELS``.
    """
    streams.occupy_standard_descriptors()
    streams.let_nobody_wait(streams.STDERR)
    if streams.is_terminal(streams.STDERR):
        _log.render = as_text(colours=has_colours(os.environ, is_terminal=True))
    _log.process = process
    _log.write_to(streams.STDERR, _log.backlog, _log.tell_held_back)
    atexit.register(flush)
    structlog.configure(
        processors=[
            _log.bound,
            _log.name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _log.line,
        ],
        wrapper_class=_that_never_raises(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Sink(_log.backlog.put),
        cache_logger_on_first_use=True,
    )
    streams.replace_stderr(_log.print)
    _take_in_what_python_says()


def name_process(process: str) -> None:
    """Change what is on each line; once the shard knows its id."""
    _log.process = process


def configure_command() -> None:
    """Set up logging for a command that a person calls: what is wrong goes to stderr, and nothing to its result."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, _log.line],
        wrapper_class=_that_never_raises(logging.WARNING),
        logger_factory=lambda *_: _Sink(_write_to_stderr),
    )


def _write_to_stderr(line: bytes) -> None:
    sys.stderr.write(line.decode())


def guard_output() -> None:
    """Let nothing that this process says to people stop it: a terminal that is stopped, a pipe without a reader."""
    for descriptor, replace in (streams.STDOUT, streams.replace_stdout), (streams.STDERR, streams.replace_stderr):
        streams.let_nobody_wait(descriptor)
        backlog = Backlog(
            lines_max=LINES_MAX, bytes_max=BYTES_MAX, tell=lambda lines: b"(%d lines are missing)\n" % lines
        )
        _log.write_to(descriptor, backlog, no_chores)
        replace(backlog.put)
    atexit.register(flush)


def _missing(lines: int) -> bytes:
    return f"({lines} lines are missing)\n".encode()


def flush(within_s: float = FLUSH_S) -> None:
    """Wait until the log is written, but not longer; before the process ends in whatever way."""
    until = time.monotonic() + within_s
    _log.tell_held_back(at_once=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, streams.LineStream):
            stream.flush()
    for writer in _log.writers:
        writer.flush(max(0.0, until - time.monotonic()))


def dropped() -> int:
    """How many lines were dropped, because they could not be written."""
    return _log.backlog.dropped


def held_back() -> int:
    """How many lines were held back, because there were too many of their kind."""
    return _log.bounds.held_back


def _that_never_raises(level: int) -> type:
    base: Any = structlog.make_filtering_bound_logger(level)

    class SafeLogger(base):  # type: ignore[misc]  # Its base is made by structlog, at run time.
        """Logs what is of a level, and never raises."""

        def _proxy_to_logger(self, method_name: str, event: str | None = None, **facts: Any) -> None:
            try:
                super()._proxy_to_logger(method_name, event, **facts)
            except Exception as exc:  # noqa: BLE001 - Who logs has other things to do.
                _log.backlog.put(bare_line(event, process=_log.process, problem=type(exc).__name__))

    return SafeLogger


# What Python and its libraries say.


class _FromLogging(logging.Handler):
    """Takes in what is logged with Python's own ``logging``: by asyncio, aiohttp, grpc, and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it."""
        try:
            text = record.getMessage()
        except Exception as exc:  # noqa: BLE001 - As above.
            text = f"a message that can't be put together: {type(exc).__name__}"
        say = log.error if record.levelno >= logging.ERROR else log.warning
        say("library_says", library=record.name, text=text, exc_info=record.exc_info or None)


def _take_in_what_python_says() -> None:
    logging.basicConfig(handlers=[_FromLogging()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_failed


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("uncaught", exc_info=(kind, error, trace))


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    log.error("unraisable", where=found.object, text=found.err_msg, exc_info=found.exc_value)


def _thread_failed(found: threading.ExceptHookArgs) -> None:
    name = found.thread.name if found.thread is not None else ""
    log.error("thread_failed", thread=name, exc_info=found.exc_value)
