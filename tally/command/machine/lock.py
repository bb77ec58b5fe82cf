"""One ``tally up`` at a time on one data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tally.errors import ConfigError, DirectoryRefused
from tally.files import make_directories


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Make the directory if need be, and hold it. The lock goes with the process, however it ends.

    Raises:
        ConfigError: There can be no such directory.
        DirectoryRefused: Another process holds it.
    """
    path = data / "lock"
    try:
        make_directories(data)
        file = path.open("a+")
    except OSError as exc:
        raise ConfigError("--data", str(data), f"a directory that can be written ({exc.strerror})") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DirectoryRefused(str(data), f"another `tally up` runs on it (process {holder})") from exc
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
