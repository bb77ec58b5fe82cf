"""The queue of lines: bounded, and exact about what it dropped."""

from threading import Event

from tally.logs.backlog import Backlog


def backlog(lines_max: int = 4, bytes_max: int = 1000) -> Backlog:
    return Backlog(lines_max=lines_max, bytes_max=bytes_max, tell=lambda count: b"%d dropped" % count)


def taken(lines: Backlog) -> list[bytes]:
    found = []
    while (line := lines.take()) is not None:
        found.append(line)
    return found


def test_lines_come_out_in_their_order() -> None:
    lines = backlog()
    for line in (b"a", b"b", b"c"):
        lines.put(line)
    assert taken(lines) == [b"a", b"b", b"c"]
    assert lines.dropped == 0


def test_full_queue_keeps_what_it_has_and_tells_afterwards_how_many_were_dropped() -> None:
    lines = backlog()
    for number in range(7):
        lines.put(b"%d" % number)
    assert taken(lines) == [b"0", b"1", b"2", b"3", b"3 dropped"]
    assert lines.dropped == 3
    lines.put(b"later")
    assert taken(lines) == [b"later"]


def test_count_of_dropped_lines_stands_where_they_are_missing() -> None:
    lines = backlog()
    for number in range(6):
        lines.put(b"%d" % number)
    assert [lines.take(), lines.take()] == [b"0", b"1"]
    lines.put(b"after")
    assert taken(lines) == [b"2", b"3", b"2 dropped", b"after"]


def test_full_queue_takes_nothing_until_a_quarter_is_free() -> None:
    lines = backlog(lines_max=8)
    for number in range(9):
        lines.put(b"%d" % number)
    lines.take()
    lines.put(b"too soon")
    assert lines.dropped == 2


def test_bytes_are_bounded_as_lines_are() -> None:
    lines = backlog(lines_max=100, bytes_max=20)
    lines.put(b"x" * 21)
    lines.put(b"small")
    assert taken(lines) == [b"1 dropped", b"small"]
    for _ in range(5):
        lines.put(b"12345")
    assert taken(lines) == [b"12345"] * 4 + [b"1 dropped"]


def test_line_that_could_not_be_written_is_told_of_too() -> None:
    lines = backlog()
    lines.put(b"a")
    lines.take()
    lines.lost()
    assert taken(lines) == [b"1 dropped"]
    assert lines.dropped == 1


def test_mark_is_reached_when_all_before_it_was_taken() -> None:
    lines, reached = backlog(), Event()
    lines.put(b"a")
    lines.mark(reached)
    lines.put(b"b")
    assert lines.take() == b"a"
    assert not reached.is_set()
    assert lines.take() == b"b"
    assert reached.is_set()


def test_line_put_from_within_put_is_kept() -> None:
    """As by what the garbage collector ends while somebody logs."""
    told: list[int] = []

    def tell(count: int) -> bytes:
        told.append(count)
        lines.put(b"from within")
        return b"told"

    lines = Backlog(lines_max=4, bytes_max=100, tell=tell)
    for _ in range(5):
        lines.put(b"a")
    assert taken(lines) == [b"a"] * 4 + [b"from within", b"told"]
    assert told == [1]
