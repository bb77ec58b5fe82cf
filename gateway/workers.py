"""Several gateways on one address: a process of its own each, for Python runs on one processor. The kernel shares out.

Each is a whole gateway, started again when it ends, as systemd would; one that could not start at all ends them all.
One that can't start again does not: the others serve.
"""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from gateway.process import listen, stop_signal
from gateway.settings import GatewaySettings
from tally.command.machine.children import before_exec, python_module
from tally.errors import ConfigError
from tally.tasks import awaited

_STARTS_WITHIN_S: Final = 5.0
_PAUSE_S: Final = 1.0
_END_S: Final = 6.0  # After the requests under way: the client's end, and that of Python.

log = structlog.get_logger()


async def supervise(settings: GatewaySettings, arguments: Sequence[str]) -> int:
    """Run ``settings.workers`` gateways until SIGTERM or SIGINT; return the exit status.

    Args:
        settings: Of all of them.
        arguments: Of this process's command line, which is also theirs.

    Raises:
        AddressTaken: The address can't be listened on.
        ConfigError: It can't be shared.
    """
    if settings.address.port == 0:
        raise ConfigError("--listen (TALLY_LISTEN)", settings.listen, "a port, if there are several --workers")
    # Somebody else may have the address: those who share it would not notice.
    (await listen(asyncio.Protocol, settings)).close()
    stop, end_s = stop_signal(), end_s_max(settings)
    workers = [
        awaited(_keep_up(number, arguments, stop, end_s), name=f"worker {number}") for number in range(settings.workers)
    ]
    try:
        waited: list[asyncio.Future[Any]] = [stop, *workers]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not stop.done():
            stop.set_result(None)
        statuses = await asyncio.gather(*workers)
    return max(statuses)


async def _keep_up(number: int, arguments: Sequence[str], stop: "asyncio.Future[None]", end_s: float) -> int:
    """Run one worker again and again until ``stop``; return its exit status, 0 if it ended because it had to."""
    has_served = False  # Not more than it can be seen from here: that it lived for a while.
    while not stop.done():
        began = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                *(*python_module("gateway"), "--worker-number", str(number), *arguments),
                preexec_fn=before_exec(),
            )
        except OSError as exc:  # No memory, no descriptor, too many processes.
            if not has_served:
                raise
            log.error("worker_not_started", worker=number, reason=str(exc))  # noqa: TRY400 - the reason is all.
            await asyncio.wait([stop], timeout=_PAUSE_S)
            continue
        ending = awaited(process.wait(), name="end of a worker")
        waited: list[asyncio.Future[Any]] = [ending, stop]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            return await _end(process, ending, end_s)
        status = ending.result()
        has_served = has_served or time.monotonic() - began >= _STARTS_WITHIN_S
        if status > 0 and not has_served:
            return status
        log.error("worker_ended", worker=number, status=status)
        await asyncio.wait([stop], timeout=_PAUSE_S)
    return 0


def end_s_max(settings: GatewaySettings) -> float:
    """Return how long a worker may take to end, before it is killed. Pure."""
    return settings.lame_duck_s + settings.finish_s + _END_S


async def _end(process: asyncio.subprocess.Process, ending: "asyncio.Task[int]", within_s: float) -> int:
    if not ending.done():
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait([ending], timeout=within_s)
        if not ending.done():
            process.kill()
    return max(await ending, 0)
