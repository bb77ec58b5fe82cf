"""Errors as RFC 9457 tells them: one line of JSON, no traceback, no text of an exception that is not ours.

``about:blank`` says that the status tells the type; ``parameter`` stands beside ``detail`` when it is about one.
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from gateway.answers import SERVER, HttpAnswer
from tally.errors import InDoubt, InvalidEvent, Overloaded, SetAside, Unavailable

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1


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
    closes: bool = False,
) -> HttpAnswer:
    """Return the answer that tells of an error; a 503 says when to come again."""
    told: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if parameter is not None:
        told["parameter"] = parameter
    found = {
        **(headers or {}),
        "Content-Type": CONTENT_TYPE,
        "X-Content-Type-Options": "nosniff",  # What is quoted in it is a stranger's.
        "Server": SERVER,
    }
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        found["Retry-After"] = str(retry_after_s)
    return HttpAnswer(status.value, tuple(found.items()), json.dumps(told).encode() + b"\n", closes)


def invalid_event(error: InvalidEvent) -> HttpAnswer:
    """Return the 400 that names the parameter."""
    return problem(HTTPStatus.BAD_REQUEST, str(error).strip(), parameter=error.parameter or None)


def set_aside(error: SetAside) -> HttpAnswer:
    """Return the 503 that tells of an event that is not sent to any shard for a while."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), retry_after_s=max(1, math.ceil(error.for_s)))


@lru_cache(maxsize=64)
def unavailable(detail: str) -> HttpAnswer:
    """Return the 503 that says why; it is remembered, for under overload there are many of them."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)


def refused(refusal: Refused) -> HttpAnswer:
    """Return the answer to a request after which the connection can't be used again."""
    return problem(refusal.status, refusal.detail, closes=True)


def unexpected() -> HttpAnswer:
    """Return the answer that tells of a bug of ours, and nothing else."""
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something is wrong with this server; see its log")


def answer_to(error: Exception) -> HttpAnswer | None:
    """Return the answer that tells of an error that is expected; None if it is not."""
    match error:
        case Refused():
            return refused(error)
        case InvalidEvent():
            return invalid_event(error)
        case SetAside():
            return set_aside(error)
        case Overloaded() | Unavailable() | InDoubt():
            return unavailable(str(error))
        case _:
            return None
