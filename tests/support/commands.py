"""Runs the ``tally`` command as a user does: as a process."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

_ROOT: Final = str(Path(__file__).parents[2])

_SETPRIV: Final = shutil.which("setpriv")
ENDS_WITH_TESTS: Final = (_SETPRIV, "--pdeathsig", "KILL") if _SETPRIV else ()
"""Before a command: it ends when the test process does, even by SIGKILL. Not in a ``preexec_fn``, which would have to
run in a fork of this process, beside the threads of its gRPC channels. It execs, so the process id stays. Only for what
the main thread starts: the kernel goes by the end of the very thread."""


class Finished(NamedTuple):
    """How a command went."""

    status: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """Return the environment of this process without what would set options; modules are found from anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    return {**kept, "PYTHONPATH": _ROOT}


async def begin(*arguments: str, cwd: Path | None = None, new_group: bool = False) -> asyncio.subprocess.Process:
    """Start ``tally`` with pipes for stdin, stdout and stderr."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tally"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=environment(),
        process_group=0 if new_group else None,
    )


async def finish(process: asyncio.subprocess.Process, stdin: bytes = b"", *, within_s: float = 60.0) -> Finished:
    """Wait for its end; kill it if that takes too long."""
    try:
        async with asyncio.timeout(within_s):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"no end within {within_s} s; stdout: {out.decode()}\nstderr: {err.decode()}") from None
    finally:
        if process.returncode is None:  # Cancelled: nobody waits for it any more.
            process.kill()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def tally(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> Finished:
    """Run ``tally`` to its end."""
    return await finish(await begin(*arguments, cwd=cwd), stdin)
