"""From path and method to the answer. What counts is behind ``Backend``; nothing here knows how.

Few paths and one hot one: a dictionary of handlers, not aiohttp's router; and for the hot one a lane of its own, which
ends in the same methods.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp.web import BaseRequest, Response

from gateway.answers import NO_CONTENT, HttpAnswer, text, to_response
from gateway.backend import Backend
from gateway.body import discard_body
from gateway.hot_lane import HotRequest
from gateway.idempotency import key_of
from gateway.problems import answer_to, problem, unavailable, unexpected
from gateway.query import parse_get, parse_post
from gateway.timing import AtMostOncePer
from tally.client.counts import HourCounts
from tally.event import KEY_HEADER, Event, key_hash
from tally.hashing import hour_of

# In milliseconds this is March 1973; in seconds, the year 5138. Who sends less has probably sent seconds.
LIKELY_SECONDS_BELOW: Final = 10**11

Handler = Callable[[bytes, BaseRequest], Awaitable[HttpAnswer]]

_METHODS: Final = frozenset({"GET", "POST"})

log = structlog.get_logger()


class App:
    """Answers requests, one call each.

    Attributes:
        backend: Who counts; may be exchanged while requests are under way.
        answered: How many well-formed requests were answered, by method ("other" if nothing here has it) and status.
        is_stopping: This process is going: each answer is the last on its connection.
    """

    def __init__(self, backend: Backend, *, body_timeout_s: float) -> None:
        """Prepare to answer.

        Args:
            backend: Who counts.
            body_timeout_s: How long a request's body may take.
        """
        self.backend = backend
        self.answered: Counter[tuple[str, int]] = Counter()
        self.is_stopping = False
        self._body_timeout_s = body_timeout_s
        self._was_ready = False
        self._told = HourCounts(0, 0, 0), _numbers(HourCounts(0, 0, 0))
        self._seconds_warning = AtMostOncePer(60)
        self._routes: Mapping[str, Mapping[str, Handler]] = {
            "/analytics": {"GET": self._read, "POST": self._record},
            "/healthz": {"GET": self._health},
            "/readyz": {"GET": self._readiness},
        }

    def stop(self) -> None:
        """Say from now on that this process is going; what is asked is still answered."""
        self.is_stopping = True

    async def answer(self, request: BaseRequest) -> Response:
        """Answer one request; never raises an ``Exception``."""
        try:
            if request.body_exists:
                await discard_body(request, self._body_timeout_s)
            answer = await self._dispatch(request)
        except Exception as exc:  # noqa: BLE001 - those that are not expected are logged.
            answer = self._failed(exc, request.method)
        self.answered[request.method if request.method in _METHODS else "other", answer.status] += 1
        response = to_response(answer)
        if self.is_stopping or getattr(request.protocol, "is_at_last_request", False):
            response.force_close()
        return response

    async def _dispatch(self, request: BaseRequest) -> HttpAnswer:
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

    def begin(self, request: HotRequest) -> "asyncio.Future[Any] | HttpAnswer":
        """Begin to answer a request of the hot lane: return the answer, or what ``finish`` makes it of."""
        try:
            if request.method == "POST":
                refusal = self._refusal()
                if refusal is not None:
                    return self._counted(request, refusal)
                return self._begin_record(request.query, request.keys)
            return self._begin_read(request.query)
        except Exception as exc:  # noqa: BLE001 - as in ``answer``.
            return self._counted(request, self._failed(exc, request.method))

    def finish(self, request: HotRequest, done: "asyncio.Future[Any]") -> HttpAnswer:
        """Return the answer to a request of the hot lane whose future is done."""
        error = done.exception()
        if error is None:
            return self._counted(request, NO_CONTENT if request.method == "POST" else self._tell(done.result()))
        assert isinstance(error, Exception)
        return self._counted(request, self._failed(error, request.method))

    def _tell(self, counts: HourCounts) -> HttpAnswer:
        """Return the answer that tells counts; readers who share a read share it, too."""
        if counts is not self._told[0]:
            self._told = counts, _numbers(counts)
        return self._told[1]

    def _counted(self, request: HotRequest, answer: HttpAnswer) -> HttpAnswer:
        self.answered[request.method, answer.status] += 1
        return answer

    def _failed(self, error: Exception, method: str) -> HttpAnswer:
        answer = answer_to(error)
        if answer is None:
            log.error("request_failed", method=method, exc_info=error)
            answer = unexpected()
        return answer

    async def _record(self, query: bytes, request: BaseRequest) -> HttpAnswer:
        refusal = self._refusal()
        if refusal is None:
            await self._begin_record(query, request.headers.getall(KEY_HEADER, ()))
        return refusal or NO_CONTENT

    def _refusal(self) -> HttpAnswer | None:
        """Return the answer to any event while the queue is full: the cheaper, the more is left for the others."""
        overload = self.backend.overload()
        return None if overload is None else unavailable(str(overload))

    def _begin_record(self, query: bytes, keys: Sequence[str]) -> "asyncio.Future[None]":
        timestamp_ms, user, kind = parse_post(query)
        hour, key = hour_of(timestamp_ms), key_of(keys)
        recorded = self.backend.record(Event(hour, user, kind, key_hash(key, hour, user, kind) if key else b""))
        if timestamp_ms < LIKELY_SECONDS_BELOW:
            events = self._seconds_warning.passes(time.monotonic())
            if events:
                log.warning("timestamps_look_like_seconds", events=events, example_ms=timestamp_ms)
        return recorded

    async def _read(self, query: bytes, _request: BaseRequest) -> HttpAnswer:
        return _numbers(await self._begin_read(query))

    def _begin_read(self, query: bytes) -> "asyncio.Future[HourCounts]":
        return self.backend.read_hour(hour_of(parse_get(query)))

    async def _health(self, _query: bytes, _request: BaseRequest) -> HttpAnswer:
        return text("ok\n")

    async def _readiness(self, _query: bytes, _request: BaseRequest) -> HttpAnswer:
        """Say whether to send requests here.

        Not ready before every slot served once, so that a start in order has an order. Ready after that whatever the
        shards do: taking every gateway out of a load balancer for one slot would take the other slots out too.
        """
        reasons = await self.backend.not_serving()
        self._was_ready = self._was_ready or not reasons
        is_ready = self._was_ready and not self.is_stopping
        if self.is_stopping:
            reasons = ["this process is shutting down", *reasons]
        lines = ["ready" if is_ready else "not ready", *reasons]
        return text("\n".join(lines) + "\n", HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _numbers(counts: HourCounts) -> HttpAnswer:
    return text(f"unique_users,{counts.unique_users}\nclicks,{counts.clicks}\nimpressions,{counts.impressions}\n")


def _unknown_path(path: str) -> HttpAnswer:
    if "#" in path:
        return problem(HTTPStatus.BAD_REQUEST, "the path has a raw #; send it as %23")
    return problem(HTTPStatus.NOT_FOUND, "there is nothing here; try /analytics")
