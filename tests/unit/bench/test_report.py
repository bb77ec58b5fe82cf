"""The report, its picture and its progress."""

import io
from xml.etree import ElementTree as ET

from bench.figures import Figures, Spread
from bench.plot import bars
from bench.progress import Progress, bar, left
from bench.report import About, Found, figures_row, figures_section, render, table

GOOD = Figures(1000.0, 50.0, 1.0, 2.0, 3.0, 0.04)
VOID = GOOD._replace(failure="3 refused")
ABOUT = About(
    date="2026-01-01 00:00 UTC",
    commit="abc",
    machine="a CPU, 2 cores",
    versions={"nginx": "1.22.1"},
    command="python -m bench",
    plot="2026-01-01.svg",
)


def test_table_lines_up() -> None:
    assert table(("a", "long"), [("123", "4")]) == ["| a   | long |", "| --- | ---- |", "| 123 | 4    |"]


def test_row_compares_with_tally() -> None:
    row = figures_row("peer", 64, [GOOD, GOOD], [GOOD._replace(cpu_us=25.0), GOOD._replace(cpu_us=100.0)])
    assert row == ["peer", "64", "1,000", "50.0", "50.0 … 50.0", "1.00", "2.00", "3.00", "4%", "1.25 (0.50 … 2.00)"]


def test_row_says_which_rounds_are_void() -> None:
    assert figures_row("peer", 64, [GOOD, VOID], None)[0] == "peer (1 of 2 rounds void)"
    void = figures_row("peer", 64, [VOID], None)
    assert void[2] == "VOID: 3 refused"
    assert len(void) == len(figures_row("peer", 64, [GOOD], None)) == len(figures_section("").header)


def test_report_says_where_and_how_it_was_measured() -> None:
    section = figures_section("POST")
    section.rows.append(figures_row("Tally", 64, [GOOD], None))
    section.notes.append("A note.")
    text = render(ABOUT, Found({"copies": Spread(2.0, 2.0, 2.0)}, [section]))
    for part in (
        "# Benchmarks of 2026-01-01",
        "commit abc",
        "nginx 1.22.1",
        "a CPU",
        "`python -m bench`",
        "(2026-01-01.svg)",
    ):
        assert part in text
    assert "## POST\n\n| system" in text
    assert text.endswith("A note.\n")


def test_findings_add_up() -> None:
    found = Found({"a": Spread(1, 1, 1)}, bars={"POST": {"Tally": 1.0}})
    found.add(Found({"b": Spread(2, 2, 2)}, [figures_section("x")], {"GET": {"Tally": 2.0}}))
    assert set(found.measured) == {"a", "b"}
    assert set(found.bars) == {"POST", "GET"}
    assert len(found.sections) == 1


def test_picture_has_a_bar_for_each_value_on_one_scale() -> None:
    picture = ET.fromstring(bars({"POST": {"Tally": 50.0, "A & B": 100.0}, "GET": {"Tally": 25.0}}, "us"))
    widths = [
        float(one.attrib["width"])
        for one in picture.iter("{http://www.w3.org/2000/svg}rect")
        if "%" not in one.attrib["width"]
    ]
    assert widths[1] == 2 * widths[0] == 4 * widths[2]


def test_progress_tells_how_much_is_done() -> None:
    out = io.StringIO()
    progress = Progress(10.0, out)
    progress.ran(5.0, "half of it")
    progress.ran(50.0, "more than was thought")
    first, second = out.getvalue().splitlines()
    assert first.startswith("[##########..........]")
    assert first.endswith("half of it")
    assert second.startswith("[####################]")


def test_rest_is_guessed_from_what_it_took() -> None:
    assert bar(0.0) == "." * 20
    assert left(60.0, 0.5) == " 1:00 left"
    assert left(1.0, 0.0) == " ?:?? left"
