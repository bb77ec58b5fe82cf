"""Bodies: nothing here needs one, so a small one is thrown away and a large one refused."""

import asyncio
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from gateway.problems import Refused

BODY_BYTES_MAX: Final = 1024


async def discard_body(request: web.BaseRequest, timeout_s: float) -> None:
    """Read the body to its end, so that the connection can carry the next request.

    Raises:
        Refused: It is too large, too slow or broken.
    """
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise _too_large()
    try:
        async with asyncio.timeout(timeout_s):
            await _continue(request)
            await _discard(request)
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
    except (OSError, RequestPayloadError):  # OSError: the client went away.
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is not what its headers say") from None


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body: aiohttp's router would, but is not used here."""
    expects = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expects and request.version >= HttpVersion11 and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # It is not part of the answer.


async def _discard(request: web.BaseRequest) -> None:
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _too_large()


def _too_large() -> Refused:
    detail = f"the body must be at most {BODY_BYTES_MAX} bytes long; none is needed"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
