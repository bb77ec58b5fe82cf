"""Several gateways on one address: a process of its own each, for Python runs on one processor. The kernel shares out.

Each is a whole gateway, started again when it ends, as systemd would; one that can't start at all ends them all.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.settings import GatewaySettings
from tally.command.machine.children import before_exec
from tally.errors import ConfigError

WORKER_VARIABLE: Final = "TALLY_WORKER"
_STARTS_WITHIN_S: Final = 5.0
_PAUSE_S: Final = 1.0
_END_S: Final = 15.0  # A gateway may take 9 s to answer what is under way.

log = structlog.get_logger()


async def supervise(settings: GatewaySettings, arguments: Sequence[str]) -> int:
    """Run ``settings.workers`` gateways until SIGTERM or SIGINT; return the exit status.

    Args:
        settings: Of all of them.
        arguments: Of this process's command line, which is also theirs.

    Raises:
        ConfigError: The address can't be listened on, or can't be shared.
    """
    _check_address(settings)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    workers = [asyncio.create_task(_keep_up(number, arguments, stop)) for number in range(settings.workers)]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *workers], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        statuses = await asyncio.gather(*workers)
    return max(statuses)


def _check_address(settings: GatewaySettings) -> None:
    """Find out now whether somebody else has the address: those who share it do not notice."""
    host, port = settings.address
    if port == 0:
        raise ConfigError("--listen (TALLY_LISTEN)", settings.listen, "a port, if there are several --workers")
    try:
        socket.create_server((host, port)).close()
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else "no such host"
        raise ConfigError("TALLY_LISTEN", settings.listen, f"an address to listen on ({reason})") from exc


async def _keep_up(number: int, arguments: Sequence[str], stop: asyncio.Event) -> int:
    """Run one worker again and again until ``stop``; return its exit status, 0 if it ended because it had to."""
    while not stop.is_set():
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *arguments),
            env=os.environ | {WORKER_VARIABLE: str(number)},
            preexec_fn=before_exec(),
        )
        ending, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait([ending, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if stop.is_set():
            return await _end(process, ending)
        status = ending.result()
        if status > 0 and time.monotonic() - began < _STARTS_WITHIN_S:
            return status
        log.error("worker_ended", worker=number, status=status)
        await asyncio.wait([asyncio.create_task(stop.wait())], timeout=_PAUSE_S)
    return 0


async def _end(process: asyncio.subprocess.Process, ending: "asyncio.Task[int]") -> int:
    if not ending.done():
        process.send_signal(signal.SIGTERM)
        await asyncio.wait([ending], timeout=_END_S)
        if not ending.done():
            process.kill()
    return max(await ending, 0)
