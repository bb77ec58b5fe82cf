"""What the operating system lets this process have, and does to it."""

import asyncio
import resource
import signal

import structlog

log = structlog.get_logger()

SPARE_FILES = 256  # For etcd, shards, the database and logs, beside the clients' connections.


def raise_file_limit(connections: int = 0) -> None:
    """Let this process open as many files as it may; warn if that is too few for so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + SPARE_FILES:
        log.warning("few_open_files", limit=hard, connections=connections)


def connections_max(wanted: int) -> int:
    """Return how many connections may be open: as many as wanted, if that leaves ``SPARE_FILES`` and half as many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else max(1, min(wanted, (hard - SPARE_FILES) * 2 // 3))


def connections_that_fit(wanted: int) -> int:
    """Return how many connections this process can have open, at most ``wanted``; a few files are left for the rest."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - min(SPARE_FILES, soft // 2)))


def ignore_hangup() -> None:
    """Go on when a terminal is closed, or SIGHUP asks to read settings again: there is nothing to read."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log.info, "hangup_ignored")
