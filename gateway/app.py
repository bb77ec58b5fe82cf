"""From path and method to the answer. What counts is behind ``Backend``; nothing here knows how.

Few paths and one hot one: a dictionary of handlers, not aiohttp's router.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp.web import BaseRequest, Response

from gateway.backend import Backend
from gateway.body import discard_body
from gateway.idempotency import key_of
from gateway.problems import SERVER, Refused, invalid_event, problem, refused, set_aside
from gateway.query import parse_get, parse_post
from gateway.timing import AtMostOncePer
from tally.errors import InDoubt, InvalidEvent, Overloaded, SetAside, Unavailable
from tally.event import KEY_HEADER, Event, key_hash
from tally.hashing import hour_of

# In milliseconds this is March 1973; in seconds, the year 5138. Who sends less has probably sent seconds.
LIKELY_SECONDS_BELOW: Final = 10**11

Handler = Callable[[bytes, BaseRequest], Awaitable[Response]]

_METHODS: Final = frozenset({"GET", "POST"})
_HEADERS: Final = {"Server": SERVER}
_TEXT_HEADERS: Final = {
    "Server": SERVER,
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-store",  # A stored answer would miss what was counted since.
}

log = structlog.get_logger()


class App:
    """Answers requests, one call each.

    Attributes:
        backend: Who counts; may be exchanged while requests are under way.
        answered: How many well-formed requests were answered, by method ("other" if nothing here has it) and status.
    """

    def __init__(self, backend: Backend, *, body_timeout_s: float) -> None:
        """Prepare to answer.

        Args:
            backend: Who counts.
            body_timeout_s: How long a request's body may take.
        """
        self.backend = backend
        self.answered: Counter[tuple[str, int]] = Counter()
        self._body_timeout_s = body_timeout_s
        self._was_ready = False
        self._is_stopping = False
        self._seconds_warning = AtMostOncePer(60)
        self._routes: Mapping[str, Mapping[str, Handler]] = {
            "/analytics": {"GET": self._read, "POST": self._record},
            "/healthz": {"GET": self._health},
            "/readyz": {"GET": self._readiness},
        }

    def stop(self) -> None:
        """Say from now on that this process is going; what is asked is still answered."""
        self._is_stopping = True

    async def answer(self, request: BaseRequest) -> Response:
        """Answer one request; never raises an ``Exception``."""
        try:
            if request.body_exists:
                await discard_body(request, self._body_timeout_s)
            response = await self._dispatch(request)
        except Refused as exc:
            response = refused(exc)
        except InvalidEvent as exc:
            response = invalid_event(exc)
        except SetAside as exc:
            response = set_aside(exc)
        except (Overloaded, Unavailable, InDoubt) as exc:
            response = problem(HTTPStatus.SERVICE_UNAVAILABLE, str(exc))
        except Exception:
            log.exception("request_failed", method=request.method)
            response = problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something is wrong with this server; see its log")
        self.answered[request.method if request.method in _METHODS else "other", response.status] += 1
        if self._is_stopping or getattr(request.protocol, "is_at_last_request", False):
            response.force_close()
        return response

    async def _dispatch(self, request: BaseRequest) -> Response:
        path, _, query = request.raw_path.partition("?")
        handlers = self._routes.get(path)
        if handlers is None:
            return _unknown_path(path)
        handler = handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(handlers)
            detail = f"{path} answers to {allowed}"
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed})
        # The inverse of how aiohttp decodes the target: these are the bytes that were sent.
        return await handler(query.encode("utf-8", "surrogateescape"), request)

    async def _record(self, query: bytes, request: BaseRequest) -> Response:
        timestamp_ms, user, kind = parse_post(query)
        hour, key = hour_of(timestamp_ms), key_of(request.headers.getall(KEY_HEADER, ()))
        await self.backend.record(Event(hour, user, kind, key_hash(key, hour, user, kind) if key else b""))
        if timestamp_ms < LIKELY_SECONDS_BELOW:
            events = self._seconds_warning.passes(time.monotonic())
            if events:
                log.warning("timestamps_look_like_seconds", events=events, example_ms=timestamp_ms)
        return Response(status=204, headers=_HEADERS)

    async def _read(self, query: bytes, _request: BaseRequest) -> Response:
        counts = await self.backend.read_hour(hour_of(parse_get(query)))
        return _text(
            f"unique_users,{counts.unique_users}\nclicks,{counts.clicks}\nimpressions,{counts.impressions}\n",
        )

    async def _health(self, _query: bytes, _request: BaseRequest) -> Response:
        return _text("ok\n")

    async def _readiness(self, _query: bytes, _request: BaseRequest) -> Response:
        """Say whether to send requests here.

        Not ready before every slot served once, so that a start in order has an order. Ready after that whatever the
        shards do: taking every gateway out of a load balancer for one slot would take the other slots out too.
        """
        reasons = await self.backend.not_serving()
        self._was_ready = self._was_ready or not reasons
        is_ready = self._was_ready and not self._is_stopping
        if self._is_stopping:
            reasons = ["this process is shutting down", *reasons]
        lines = ["ready" if is_ready else "not ready", *reasons]
        return _text("\n".join(lines) + "\n", HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _text(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status=status, body=text.encode(), headers=_TEXT_HEADERS)


def _unknown_path(path: str) -> Response:
    if "#" in path:
        return problem(HTTPStatus.BAD_REQUEST, "the path has a raw #; send it as %23")
    return problem(HTTPStatus.NOT_FOUND, "there is nothing here; try /analytics")
