"""Small files are whole at every moment, private from the first byte, and leave nothing behind."""

import errno
import os
import stat
from itertools import count
from pathlib import Path

import pytest

from tally.files import FileSystem, is_draft, make_directories, write_whole
from tests.support.power_cuts import ModelDisk, PowerCut

FILE = Path("/data/state.json")
OLD, NEW = b"old state", b"newer state"


@pytest.mark.parametrize("before", [{}, {FILE: OLD}], ids=["new", "replaced"])
def test_power_cut_at_any_byte_leaves_the_old_file_or_the_new_one(before: dict[Path, bytes]) -> None:
    for steps in count():
        disk = ModelDisk(before, steps)
        try:
            write_whole(FILE, NEW, system=disk)
        except PowerCut:
            for found in disk.after_cut():
                assert found.get(FILE) in {before.get(FILE), NEW}, f"after {steps} steps"
                assert all(path == FILE or is_draft(path.name, FILE.name) for path in found)
            continue
        assert steps > len(NEW)
        assert [found.get(FILE) for found in disk.after_cut()] == [NEW]  # Durable when it returns.
        return


def test_a_file_is_private_from_its_first_byte() -> None:
    disk = ModelDisk({}, 100)
    write_whole(FILE, NEW, system=disk)
    assert list(disk.made.values()) == [0o600]


def test_what_is_written_is_found(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_whole(file, "Zürich", mode=0o644)
    assert file.read_bytes() == "Zürich".encode()
    write_whole(file, b"", mode=0o600)
    assert file.read_bytes() == b""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [child.name for child in tmp_path.iterdir()] == ["state.json"]


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    class Full(FileSystem):
        def sync(self, file: int) -> None:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for file {file}")

    file = tmp_path / "state.json"
    write_whole(file, OLD)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, NEW, system=Full())
    assert file.read_bytes() == OLD
    assert [child.name for child in tmp_path.iterdir()] == ["state.json"]


def test_what_a_crash_left_is_removed_later_and_nothing_else(tmp_path: Path) -> None:
    mine, of_now, other = (tmp_path / name for name in ("a.0123abcd.new", "a.0123abce.new", "a.b.0123abcd.new"))
    for path in (mine, of_now, other):
        path.write_bytes(b"")
    for path in (mine, other):
        os.utime(path, (1, 1))
    write_whole(tmp_path / "a", NEW)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a", "a.0123abce.new", "a.b.0123abcd.new"]


def test_missing_directories_are_made_private_and_durable(tmp_path: Path) -> None:
    make_directories(tmp_path / "a" / "b")
    make_directories(tmp_path / "a" / "b")  # It is there: nothing to do.
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    disk = ModelDisk({}, 100)
    make_directories(Path("/no-such/directory"), system=disk)
    assert disk.made == {Path("/no-such"): 0o700, Path("/no-such/directory"): 0o700}
    assert disk.steps_left == 96  # Each was made, and the one above it flushed.


def test_a_file_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            make_directories(path)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("state.json.0123abcd.new", True),
        ("state.json.new", True),
        ("state.json", False),
        ("other.json.new", False),
        (".new", False),
    ],
)
def test_drafts_are_known_by_name(name: str, *, is_one: bool) -> None:
    assert is_draft(name, "state.json", "x") is is_one
