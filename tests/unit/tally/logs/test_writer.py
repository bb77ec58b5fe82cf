"""The thread that writes, on real pipes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tally.logs.backlog import Backlog
from tally.logs.writer import Writer
from tests.support.broken_logs import fill

ENDS_S = 5.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        if Path(f"/proc/self/fd/{end}").exists():
            os.close(end)


def begun(descriptor: int, *, retry_s: float = 0.01) -> tuple[Writer, Backlog]:
    backlog = Backlog(lines_max=4, bytes_max=100_000, tell=lambda count: b"%d dropped\n" % count)
    writer = Writer(descriptor, backlog, retry_s=retry_s)
    writer.start()
    return writer, backlog


def test_lines_are_written_in_their_order(pipe: tuple[int, int]) -> None:
    writer, backlog = begun(pipe[1])
    backlog.put(b"a\n")
    backlog.put(b"b\n")
    assert writer.flush(ENDS_S)
    assert os.read(pipe[0], 100) == b"a\nb\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_pipe_that_nobody_reads_holds_up_neither_who_logs_nor_the_end(pipe: tuple[int, int], *, blocking: bool) -> None:
    os.set_blocking(pipe[1], False)
    fill(pipe[1])
    os.set_blocking(pipe[1], blocking)
    writer, backlog = begun(pipe[1])
    for _ in range(100):
        backlog.put(b"a\n")
    assert not writer.flush(0.01)
    assert backlog.dropped >= 95
    while b"dropped" not in os.read(pipe[0], 4096):  # Its reader is back.
        pass
    backlog.put(b"after\n")
    assert writer.flush(ENDS_S)


def test_broken_pipe_gives_the_end_of_the_process_no_pause(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer, backlog = begun(pipe[1], retry_s=3600)
    for _ in range(3):
        backlog.put(b"a\n")
    assert writer.flush(ENDS_S)
    assert backlog.dropped == 3


def test_next_reader_of_a_fifo_gets_what_was_kept_for_him(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    descriptor = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.close(reader)
    _, backlog = begun(descriptor)
    backlog.put(b"a\n")
    backlog.put(b"b\n")
    with (tmp_path / "fifo").open("rb") as again:
        assert [again.readline(), again.readline()] == [b"a\n", b"b\n"]
    os.close(descriptor)


def test_disk_that_was_full_gets_what_was_kept_for_it(pipe: tuple[int, int]) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    _, backlog = begun(descriptor)
    for number in range(6):
        backlog.put(b"%d\n" % number)
    os.dup2(pipe[1], descriptor)  # As if there were room again.
    with os.fdopen(pipe[0], "rb", closefd=False) as reader:
        lines = [reader.readline() for _ in range(4)]
    assert lines == [b"0\n", b"1\n", b"2\n", b"3\n"]
    os.close(descriptor)


def test_closed_descriptor_is_an_error_of_nobody() -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.close(descriptor)
    writer, backlog = begun(descriptor)
    backlog.put(b"a\n")
    assert writer.flush(ENDS_S)
    assert backlog.dropped == 1
