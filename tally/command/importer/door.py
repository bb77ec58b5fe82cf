"""The gateway as ``tally import`` finds it: whether anybody is there, at the start and when connections fail later."""

import asyncio
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import aiohttp

from tally.errors import TallyError

BACK_S_MAX: Final = 30.0
LOOK_S_MAX: Final = 10.0
_LOOK_AGAIN_S: Final = 0.25
_READY_S_MAX: Final = 2.0

# Raised before a byte of the request was written: it was not sent.
NOT_CONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class GatewayUnreachable(TallyError):
    """No gateway is there; nothing was sent."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no gateway answers at {self.url} ({self.reason}); start one with `tally up`, or say where with --to"


class Halt:
    """Set once: from then on nothing more is sent. Says why."""

    def __init__(self) -> None:
        self.reason = ""
        self._set = asyncio.Event()

    def set(self, reason: str) -> None:
        """Halt; only the first reason counts."""
        if not self._set.is_set():
            self.reason = reason
            self._set.set()

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._set.is_set()

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._set.wait()


async def knock(session: aiohttp.ClientSession, to: str) -> None:
    """Make sure that a gateway is there, before every single row says that there is none.

    Raises:
        GatewayUnreachable: There is none, or something else.
    """
    timeout = aiohttp.ClientTimeout(total=LOOK_S_MAX)
    try:
        async with session.get(f"{to}/healthz", allow_redirects=False, timeout=timeout) as answer:
            if answer.status != HTTPStatus.OK:
                raise GatewayUnreachable(to, f"GET /healthz gave {answer.status}")
    except NOT_CONNECTED as exc:
        raise GatewayUnreachable(to, reason_of(exc)) from exc
    except TimeoutError as exc:
        raise GatewayUnreachable(to, f"no answer within {LOOK_S_MAX:.0f} s") from exc
    except aiohttp.ClientError as exc:
        raise GatewayUnreachable(to, "what answers does not speak HTTP") from exc


class Door:
    """Where those wait who could not connect. One of them looks after the gateway for all."""

    def __init__(self, session: aiohttp.ClientSession, to: str, halt: Halt, say: Callable[[str], None]) -> None:
        self._session = session
        self._to = to
        self._halt = halt
        self._say = say
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, error: BaseException) -> None:
        """Return when the gateway is back, or ``halt`` is set: by this, if it does not come back."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(reason_of(error)))
        halted = asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait({self._looking, halted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            halted.cancel()

    def close(self) -> None:
        """Look no longer."""
        if self._looking:
            self._looking.cancel()

    async def _look(self, reason: str) -> None:
        self._say(f"can't connect to the gateway ({reason}); waiting up to {BACK_S_MAX:.0f} s for it")
        loop = asyncio.get_running_loop()
        end, answers = loop.time() + BACK_S_MAX, False
        while loop.time() < end:
            await asyncio.sleep(_LOOK_AGAIN_S)
            status = await self._ready()
            answers = status is not None
            # Right after its start it has no shards yet, and would answer 503 to row after row.
            if status == HTTPStatus.OK:
                self._say("the gateway is back")
                return
        if not answers:
            self._halt.set(f"the gateway did not come back within {BACK_S_MAX:.0f} s")

    async def _ready(self) -> int | None:
        timeout = aiohttp.ClientTimeout(total=_READY_S_MAX)
        try:
            async with self._session.get(f"{self._to}/readyz", allow_redirects=False, timeout=timeout) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None


def reason_of(exc: BaseException) -> str:
    """Say in a few words why a request failed. Pure."""
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return "no connection in time"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, aiohttp.ClientConnectorError):
        # Not its text, which differs from one event loop to the other.
        return os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or str(exc)
    return str(exc) or type(exc).__name__
