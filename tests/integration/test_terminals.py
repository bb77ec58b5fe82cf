"""What commands and processes write to a terminal, and to what is none."""

import asyncio
import os
import sys
from collections.abc import Mapping

import pytest

from tests.support.commands import environment

IMPORTS = """
from tally.command.console import stderr_console
from tally.command.importer.progress import Reporter
from tally.command.importer.sending import Outcome
with Reporter(stderr_console(), 100) as reporter:
    reporter.advance(50, Outcome(counted=5))
"""
LOGS = "from tally import logs; logs.configure('tried'); import structlog; structlog.get_logger().info('tried')"
ESCAPE = b"\x1b["
COLOUR = b"\x1b[1m"


async def written(script: str, variables: Mapping[str, str], *, terminal: bool) -> bytes:
    """Return what a script wrote to its stderr."""
    reader, writer = os.openpty() if terminal else os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), stderr=writer, env={**environment(), "TERM": "xterm", **variables}
    )
    os.close(writer)
    said = b""
    try:
        while chunk := await asyncio.to_thread(os.read, reader, 65536):
            said += chunk
    except OSError:  # How the end of a terminal looks.
        pass
    os.close(reader)
    assert await process.wait() == 0
    return said


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"TTY_INTERACTIVE": "1"}])
@pytest.mark.parametrize("script", [IMPORTS, LOGS])
async def test_file_gets_plain_lines_whatever_is_forced(script: str, variables: Mapping[str, str]) -> None:
    said = await written(script, variables, terminal=False)
    assert ESCAPE not in said
    assert said.count(b"\n") == 1


async def test_terminal_gets_a_bar_and_coloured_logs() -> None:
    assert ESCAPE in await written(IMPORTS, {}, terminal=True)
    assert COLOUR in await written(LOGS, {}, terminal=True)


@pytest.mark.parametrize("script", [IMPORTS, LOGS])
async def test_dumb_terminal_gets_plain_lines(script: str) -> None:
    assert ESCAPE not in await written(script, {"TERM": "dumb", "FORCE_COLOR": "1"}, terminal=True)


async def test_who_wants_no_colour_gets_none_but_a_bar() -> None:
    said = await written(IMPORTS, {"NO_COLOR": "1"}, terminal=True)
    assert ESCAPE in said
    assert b"\x1b[38;" not in said
    assert b"\x1b[3" not in said
    assert ESCAPE not in await written(LOGS, {"NO_COLOR": "1"}, terminal=True)
