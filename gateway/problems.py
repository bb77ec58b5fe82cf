"""Errors as RFC 9457 tells them: one line of JSON, no traceback, no text of an exception that is not ours.

``about:blank`` says that the status tells the type; ``parameter`` stands beside ``detail`` when it is about one.
"""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp.web import Response

from tally.errors import InvalidEvent, SetAside

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
SERVER: Final = "tally"  # Instead of the names and versions of what it is made of.


class Refused(Exception):
    """The request is not answered with what it asks for, and its connection is closed."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status.value} {self.detail}"


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    parameter: str | None = None,
    headers: Mapping[str, str] | None = None,
    retry_after_s: int = RETRY_AFTER_S,
) -> Response:
    """Return the response that tells of an error; a 503 says when to come again."""
    told: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if parameter is not None:
        told["parameter"] = parameter
    response = Response(status=status, body=json.dumps(told).encode() + b"\n", headers=headers)
    response.headers["Content-Type"] = CONTENT_TYPE
    response.headers["Server"] = SERVER
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def invalid_event(error: InvalidEvent) -> Response:
    """Return the 400 that names the parameter."""
    return problem(HTTPStatus.BAD_REQUEST, str(error).strip(), parameter=error.parameter or None)


def set_aside(error: SetAside) -> Response:
    """Return the 503 that tells of an event that is not sent to any shard for a while."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), retry_after_s=max(1, math.ceil(error.for_s)))


def refused(refusal: Refused) -> Response:
    """Return the response to a request after which the connection can't be used again."""
    response = problem(refusal.status, refusal.detail)
    response.force_close()
    return response
