"""The gateway as ``tally import`` finds it: whether anybody is there at the start, and why a request failed."""

import os
from http import HTTPStatus
from typing import Final

import aiohttp

from tally.errors import TallyError

LOOK_S_MAX: Final = 10.0

_NOT_CONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class GatewayUnreachable(TallyError):
    """No gateway is there; nothing was sent."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no gateway answers at {self.url} ({self.reason}); start one with `tally up`, or say where with --to"


async def knock(session: aiohttp.ClientSession, to: str) -> None:
    """Make sure that a gateway is there: at the start, who finds none has rather mistaken its address.

    Raises:
        GatewayUnreachable: There is none, or something else.
    """
    timeout = aiohttp.ClientTimeout(total=LOOK_S_MAX)
    try:
        async with session.get(f"{to}/healthz", allow_redirects=False, timeout=timeout) as answer:
            if answer.status != HTTPStatus.OK:
                raise GatewayUnreachable(to, f"GET /healthz gave {answer.status}")
    except _NOT_CONNECTED as exc:
        raise GatewayUnreachable(to, reason_of(exc)) from exc
    except TimeoutError as exc:
        raise GatewayUnreachable(to, f"no answer within {LOOK_S_MAX:.0f} s") from exc
    except aiohttp.ClientError as exc:
        raise GatewayUnreachable(to, "what answers does not speak HTTP") from exc


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
