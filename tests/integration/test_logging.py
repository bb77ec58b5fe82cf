"""What a process says, in whatever way, ends in its log; and its log holds up nothing."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.broken_logs import CLOSED_STDERR, fill
from tests.support.commands import environment

BEGIN = "from tally import logs; logs.configure('tried'); import structlog; log = structlog.get_logger()\n"


async def ran(script: str, *, before: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run a script that has a log; return its exit status and what it logged."""
    process = await asyncio.create_subprocess_exec(
        *(*before, sys.executable, "-c", BEGIN + script),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def lines_of(script: str) -> list[dict[str, Any]]:
    status, said = await ran(script)
    assert status == 0
    return [json.loads(line) for line in said.splitlines()]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("log.info('slot_moved', slot=3)", {"event": "slot_moved", "slot": 3, "level": "info"}),
        ("import logging; logging.getLogger('grpc').error('%s is odd', 7)", {"library": "grpc", "text": "7 is odd"}),
        ("import logging; logging.getLogger('grpc').error('%d', 'x')", {"library": "grpc", "level": "error"}),
        ("import warnings; warnings.warn('old')", {"library": "py.warnings", "level": "warning"}),
        (
            "class Odd:\n  def __del__(self): raise ValueError('why')\nOdd()",
            {"event": "unraisable", "level": "error"},
        ),
        (
            "import threading; one = threading.Thread(target=lambda: 1 / 0, name='one'); one.start(); one.join()",
            {"event": "thread_failed", "thread": "one"},
        ),
        (
            "import asyncio\nasync def f(): asyncio.get_running_loop().call_soon(lambda: 1 / 0)\nasyncio.run(f())",
            {"event": "library_says", "library": "asyncio", "level": "error"},
        ),
        ("log.info('x', by=1)\nlog.debug('y')", {"event": "x"}),
    ],
)
async def test_one_line_of_json_tells_it(script: str, expected: dict[str, Any]) -> None:
    (line,) = await lines_of(script)
    assert line["process"] == "tried"
    assert "timestamp" in line
    assert line.items() >= expected.items()


async def test_error_that_nobody_catches_is_a_line_of_level_critical() -> None:
    status, said = await ran("raise ValueError('\\x1b why\\n{}')")
    line = json.loads(said)
    assert (status, line["event"], line["level"]) == (1, "uncaught", "critical")
    assert line["exception"].endswith("ValueError: \x1b why\n{}")


async def test_text_that_is_printed_comes_in_its_place_and_needs_no_end_of_line() -> None:
    _, said = await ran(
        "import sys, click; print('a', 'b', file=sys.stderr); log.info('x'); click.echo('c', err=True)\n"
        "sys.stderr.write('\\udc80 no end')"
    )
    first, second, third, fourth = said.split("\n")
    assert [first, json.loads(second)["event"], third, fourth] == ["a b", "x", "c", "\\udc80 no end"]


async def test_what_a_stranger_can_cause_is_bounded_and_counted() -> None:
    lines = await lines_of("for _ in range(1000): log.info('request_refused', status=400)")
    assert len(lines) == 11
    assert lines[-1].items() >= {"event": "log_lines_held_back", "of": "request_refused", "lines": 990}.items()


async def test_what_a_library_repeats_is_bounded_whatever_it_is_about() -> None:
    lines = await lines_of(
        "import logging\nfor number in range(1000): logging.getLogger('aiohttp').error('request %d', number)"
    )
    assert len(lines) == 11


async def test_each_event_has_a_bound() -> None:
    lines = await lines_of("for slot in range(10_000): log.info('copy_joins', slot=slot)")
    assert 100 <= len(lines) <= 200


async def test_log_that_nobody_reads_holds_up_neither_the_work_nor_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    fill(writer)
    os.set_blocking(writer, True)
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            BEGIN + "for slot in range(100_000): log.info(f'e{slot % 900}')\nprint(logs.dropped())",
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=writer,
        env=environment(),
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert int(out) > 10_000
    assert time.monotonic() - began < 30
    os.close(reader)
    os.close(writer)


async def test_native_code_does_not_wait_for_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """It writes to the descriptor itself, perhaps in the thread of the event loop."""
    script = "import os\ntry:\n  while True: os.write(2, b'x' * 4096)\nexcept BlockingIOError: print('did not wait')"
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BEGIN + script), stdout=asyncio.subprocess.PIPE, stderr=writer, env=environment()
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert out == b"did not wait\n"
    assert os.get_blocking(writer)  # Others who have it open are not affected.
    os.close(reader)
    os.close(writer)


async def test_closed_stderr_does_not_become_another_file() -> None:
    """Native code writes its complaints to descriptor 2, whatever that is."""
    process = await asyncio.create_subprocess_exec(
        *(
            *CLOSED_STDERR,
            sys.executable,
            "-c",
            BEGIN + "import os; log.info('x'); print(open(os.devnull).fileno() > 2)",
        ),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (0, b"True\n")
