"""A disk that fills up: what is taken no more, and what the log says of it."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shard.storage.room import Room


@pytest.mark.parametrize(
    ("percent", "copies", "events"),
    [(0, True, True), (84, True, True), (85, False, True), (94, False, True), (95, False, False), (100, False, False)],
)
def test_full_disk_takes_no_copies_first_and_then_no_events(percent: int, copies: bool, events: bool) -> None:
    room = Room(Path("data"))
    room.see(percent, 100 - percent)
    assert (room.used, room.takes_copies, room.takes_events) == (percent / 100, copies, events)


def said(*percents: int) -> list[tuple[str, str, Any]]:
    """Return what is logged while the disk is so full, one look after the other."""
    room = Room(Path("data"))
    with capture_logs() as lines:
        for percent in percents:
            room.see(percent, 100 - percent)
    return [(line["log_level"], line["event"], line.get("refused", line.get("taken"))) for line in lines]


def test_each_limit_is_told_once_when_it_is_passed_and_once_when_that_is_over() -> None:
    nearly, full = ("warning", "disk_nearly_full", "new copies"), ("error", "disk_full", "events")
    again, roomy = ("info", "disk_has_room", "events"), ("info", "disk_has_room", "new copies")
    assert said(20, 84) == []
    assert said(86, 90, 96, 99, 90, 90, 20, 20) == [nearly, full, again, roomy]
    assert said(99, 99, 20) == [nearly, full, again, roomy]


def test_full_disk_is_told_with_what_helps() -> None:
    room = Room(Path("/var/lib/tally"))
    with capture_logs() as lines:
        room.see(961, 39)
    assert lines[-1] == {
        "log_level": "error",
        "event": "disk_full",
        "path": "/var/lib/tally",
        "used_percent": 96,
        "refused": "events",
        "advice": "give the disk more room; what moves to other shards is not freed here (README, Damage)",
    }
