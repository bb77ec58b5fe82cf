"""Small files that Tally writes for itself: whole at every moment, whatever ends the process or the machine.

A file is written beside its place, flushed, renamed, and the directory is flushed. So a power cut at any byte leaves
the old content or the new one, and what was written when ``write_whole`` returned stays.

Nobody else may read them, unless the caller says so: the mode holds from the first byte.
"""

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700
_DRAFT: Final = re.compile(r"(?P<file>.+?)(\.[0-9a-f]{8})?\.new")
_LEFT_BEHIND_S: Final = 600.0  # A draft that is older than this is nobody's: a crash left it.


class FileSystem:
    """The calls of the operating system that writing takes, so that a test can cut the power between any two."""

    def create(self, path: Path, mode: int) -> int:
        """Make a file that is not there yet, and open it for writing; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def write(self, file: int, content: bytes) -> int:
        """Write the beginning of ``content``; return how many bytes."""
        return os.write(file, content)

    def sync(self, file: int) -> None:
        """Flush what was written to a file."""
        os.fsync(file)

    def close(self, file: int) -> None:
        """Close a file."""
        os.close(file)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name; what had that name is gone."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_directory(self, path: Path, mode: int) -> None:
        """Make a directory that is not there yet."""
        path.mkdir(mode)

    def sync_directory(self, path: Path) -> None:
        """Flush which names a directory has."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_OS: Final = FileSystem()


def write_whole(path: Path, content: str | bytes, *, mode: int = PRIVATE_FILE, system: FileSystem = _OS) -> None:
    """Write a small file whole or not at all; durable when this returns. Several processes may write one file.

    Args:
        path: Where it belongs; its directory is there.
        content: All of it; text is written as UTF-8.
        mode: Its permissions, less what the umask takes.
        system: What carries it out.

    Raises:
        OSError: It can't be written; what it held before is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    # A name of its own: who writes at the same time, perhaps in another container, must not write into it.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    file = system.create(draft, mode)
    try:
        try:
            done = 0
            while done < len(data):
                done += system.write(file, data[done:])
            system.sync(file)
        finally:
            system.close(file)
        system.rename(draft, path)
    except BaseException as exc:
        if isinstance(exc, OSError) and exc.filename is None:
            exc.filename = str(path)  # What a full disk says names no file.
        with contextlib.suppress(OSError):
            system.unlink(draft)
        raise
    system.sync_directory(path.parent)
    _remove_left_behind(path)


def is_draft(name: str, *files: str) -> bool:
    """Whether a crash while one of these files was written may have left a file of this name. Pure."""
    found = _DRAFT.fullmatch(name)
    return found is not None and found["file"] in files


def make_directories(path: Path, *, mode: int = PRIVATE_DIRECTORY, system: FileSystem = _OS) -> None:
    """Make a directory, and those above it that are missing; durable when this returns.

    Args:
        path: The directory; one that is there stays as it is.
        mode: Its permissions, less what the umask takes, and those of the directories that are made above it.
        system: What carries it out.

    Raises:
        OSError: It can't be made.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    for one in reversed(missing):
        try:
            system.make_directory(one, mode)
        except FileExistsError:
            if not one.is_dir():
                raise
        system.sync_directory(one.parent)


def sync_directory(path: Path) -> None:
    """Make durable which files a directory has.

    Raises:
        OSError: The disk does not take it.
    """
    _OS.sync_directory(path)


def _remove_left_behind(path: Path) -> None:
    """Remove the drafts of this file that crashes left behind. Their age is told by the clock of the file system."""
    with contextlib.suppress(OSError):
        now = path.stat().st_mtime
        for draft in path.parent.glob(f"{_escaped(path.name)}.*.new"):
            if is_draft(draft.name, path.name) and draft.stat().st_mtime < now - _LEFT_BEHIND_S:
                draft.unlink()


def _escaped(name: str) -> str:
    """Return a pattern that fits this name only."""
    return re.sub(r"([*?[])", r"[\1]", name)
