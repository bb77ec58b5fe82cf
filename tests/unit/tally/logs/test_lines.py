"""From facts to a line, whatever the facts are."""

import json
from typing import Any

import pytest

from tally.logs.lines import LINE_BYTES_MAX, TEXT_MAX, TRACE_MAX, as_json, as_text, line_of


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Endless(list[Any]):
    def __init__(self) -> None:
        super().__init__([self])


def told(**facts: Any) -> dict[str, Any]:
    line = line_of({"event": "tried", **facts}, as_json)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    "value",
    [
        'ann\n{"event": "forged"}',
        "\x1b[2J\x07\x9b",
        "\udc80 half",
        "\u202e turned",
        "\u2028",
        b"\xff",
        float("nan"),
        10**5000,
        {1: {2: {3: 4}}},
        {"a": Unspeakable()},
        Unspeakable(),
        Endless(),
        [[[[[]]]]],
        set(range(3)),
        Exception("\n"),
        "x" * 10_000_000,
        ["x" * 10_000] * 1000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_makes_one_line_of_bounded_length_without_control_characters(value: Any) -> None:
    for render in (as_json, as_text(colours=False)):
        line = line_of({"event": "tried", "value": value}, render)
        assert line.count(b"\n") == 1
        assert len(line) <= LINE_BYTES_MAX
        assert not [char for char in line.decode()[:-1] if not char.isprintable()]
    assert told(value=value)["event"] == "tried"


def test_value_that_has_no_repr_is_named_by_its_type() -> None:
    assert told(value=Unspeakable())["value"] == "a Unspeakable whose repr raised RuntimeError"


def test_ordinary_facts_stay_as_they_are() -> None:
    facts = {"slots": 3, "ratio": 0.5, "who": "s1", "all": [1, 2], "per": {"s1": 4}, "none": None, "yes": True}
    assert told(**facts) == {"event": "tried", **facts}


def test_long_text_keeps_its_begin_and_its_end() -> None:
    text = told(value="b" + "x" * 10**6 + "e")["value"]
    assert text.startswith("bx")
    assert text.endswith("xe")
    assert len(text) < TEXT_MAX + 100


def test_long_traceback_keeps_its_end() -> None:
    text = told(exception="x" * 10**6 + "\nValueError: why")["exception"]
    assert text.endswith("ValueError: why")
    assert len(text) < TRACE_MAX + 100


def test_renderer_that_fails_is_no_error_of_who_logs() -> None:
    def fails(_facts: object) -> str:
        raise ValueError

    line = json.loads(line_of({"event": "tried", "value": 1}, fails))
    assert (line["event"], line["problem"]) == ("tried", "ValueError")


def test_traceback_on_a_terminal_has_its_lines_but_no_escape_characters() -> None:
    line = line_of({"event": "tried", "exception": "Traceback\n  ValueError: \x1b[31m"}, as_text(colours=False))
    assert line.endswith(b"Traceback\n  ValueError: \\x1b[31m\n")
