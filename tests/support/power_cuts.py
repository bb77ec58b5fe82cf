"""A disk in memory whose power is cut after any number of steps; a step writes one byte at most.

After a cut, of what was not flushed anything may be there: each change of a name or not, of each file any beginning of
what was written, or zeros in its place. That is what file systems promise, and what they were seen to do.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tally.files import FileSystem


class PowerCut(BaseException):
    """The machine is gone."""


class ModelDisk(FileSystem):
    """The file system of ``tally.files``, in memory."""

    def __init__(self, files: dict[Path, bytes], steps: int) -> None:
        """Begin with these files, flushed; the power goes after so many steps."""
        self.steps_left = steps
        self.made: dict[Path, int] = {}  # File or directory -> the mode it was made with.
        self._contents = dict(enumerate(files.values()))  # By the number of the file; what is flushed.
        self._written = dict(self._contents)
        self._names = {path: number for number, path in enumerate(files)}
        self._changes: list[tuple[Path, Path | None, int | None]] = []  # (gets a file, loses its name, the file)
        self._flushed_names = dict(self._names)

    def _step(self) -> None:
        if self.steps_left == 0:
            raise PowerCut
        self.steps_left -= 1

    def create(self, path: Path, mode: int) -> int:
        self._step()
        assert path not in self._names
        number = len(self._contents)
        self._contents[number] = self._written[number] = b""
        self.made[path] = mode
        self._change(path, None, number)
        return number

    def write(self, file: int, content: bytes) -> int:
        self._step()
        self._written[file] += content[:1]
        return 1

    def sync(self, file: int) -> None:
        self._step()
        self._contents[file] = self._written[file]

    def close(self, file: int) -> None:
        assert file in self._contents

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        self._change(new, old, self._names[old])

    def unlink(self, path: Path) -> None:
        self._step()
        self._change(path, None, None)

    def make_directory(self, path: Path, mode: int) -> None:
        self._step()
        self.made[path] = mode

    def sync_directory(self, path: Path) -> None:
        self._step()
        kept = []
        for change in self._changes:
            if change[0].parent == path:
                _apply(self._flushed_names, change)
            else:
                kept.append(change)
        self._changes = kept

    def _change(self, *change: *tuple[Path, Path | None, int | None]) -> None:
        _apply(self._names, change)
        self._changes.append(change)

    def after_cut(self) -> Iterator[dict[Path, bytes]]:
        """Give each state that the disk may be found in: file -> content."""
        for happened in product((False, True), repeat=len(self._changes)):
            names = dict(self._flushed_names)
            for change, did in zip(self._changes, happened, strict=True):
                if did:
                    _apply(names, change)
            choices = [self._found(number) for number in names.values()]
            for found in product(*choices):
                yield dict(zip(names, found, strict=True))

    def _found(self, number: int) -> list[bytes]:
        flushed, written = self._contents[number], self._written[number]
        lengths = range(len(flushed), len(written) + 1)
        beginnings = [written[:length] for length in lengths]
        return sorted({*beginnings, *(flushed.ljust(length, b"\0") for length in lengths)})


def _apply(names: dict[Path, int], change: tuple[Path, Path | None, int | None]) -> None:
    gets, loses, number = change
    if loses is not None:
        names.pop(loses, None)
    if number is None:
        names.pop(gets, None)
    else:
        names[gets] = number
