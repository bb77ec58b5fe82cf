"""stdout and stderr as Python's own code, its libraries and native code see them: nobody who writes there waits."""

import io
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Final, TextIO, cast

STDOUT: Final = 1
STDERR: Final = 2
_PART_MAX: Final = 16 * 1024  # Characters without an end of line.


class LineStream(io.TextIOBase):
    """A text stream that hands lines over to ``put``, instead of writing them."""

    def __init__(self, descriptor: int, put: Callable[[bytes], None]) -> None:
        """Prepare to stand for the stream of a descriptor."""
        self._descriptor = descriptor
        self._put = put
        self._part = ""
        self._lock = RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # An attribute of the base that can't be set.
        """That of the log."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What has no form in UTF-8 is escaped."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Take in text; raises only for what is no text."""
        if not isinstance(text, str):
            raise TypeError(f"text is needed, not {type(text).__name__}")
        with self._lock:
            *lines, self._part = (self._part + text).split("\n")
            for line in lines:
                self._hand_over(line + "\n")
            if len(self._part) > _PART_MAX:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Hand over what has no end of line yet."""
        with self._lock:
            part, self._part = self._part, ""
            if part:
                self._hand_over(part)

    def fileno(self) -> int:
        """Return the descriptor that it stands for."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Stay open: others have it, too."""

    def _hand_over(self, text: str) -> None:
        self._put(text.encode(errors="backslashreplace"))


def occupy_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, to nowhere: the next file to be opened would get its number.

    Native code writes to 2 whatever that is, even a database's file.
    """
    for descriptor in (0, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            if nowhere != descriptor:
                os.close(nowhere)


def let_nobody_wait(descriptor: int) -> None:
    """Make writes fail that would wait, also those of native code; leave the other processes' writes as they are.

    The flag for that belongs to what was opened, which others share: so a pipe or a terminal is opened once more. A
    socket can't be, and stays as it is. (A file is not waited for in this sense.)
    """
    with suppress(OSError):  # Not Linux, or not ours to open: then only native code may wait.
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.dup2(opened, descriptor)
            os.close(opened)


def is_terminal(descriptor: int) -> bool:
    """Whether a person may look at it."""
    with suppress(OSError):
        return os.isatty(descriptor)
    return False


def replace_stderr(put: Callable[[bytes], None]) -> None:
    """Let all that Python writes to stderr go to ``put``."""
    sys.stderr = cast(TextIO, LineStream(STDERR, put))


def replace_stdout(put: Callable[[bytes], None]) -> None:
    """Let all that Python writes to stdout go to ``put``."""
    sys.stdout = cast(TextIO, LineStream(STDOUT, put))
