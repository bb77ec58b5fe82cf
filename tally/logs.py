"""Logging: one event name and facts with units on a line, to stderr. JSON, or coloured text on a terminal.

User names are never logged.
"""

import sys

import structlog


def configure(process: str) -> None:
    """Set up logging for this process; ``process`` (``gateway``, ``shard s1``) is on each of its lines."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
