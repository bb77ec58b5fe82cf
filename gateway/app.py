"""From path and method to the answer. What counts is behind ``Backend``; nothing here knows how."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog

from gateway.answers import NO_CONTENT, HttpAnswer, text
from gateway.backend import Backend
from gateway.idempotency import key_of
from gateway.problems import answer_to, problem, unavailable, unexpected
from gateway.query import parse_get, parse_post
from gateway.request import HttpRequest
from gateway.timing import AtMostOncePer
from tally.client.counts import HourCounts
from tally.event import Event, key_hash
from tally.hashing import hour_of
from tally.tasks import awaited

# In milliseconds this is March 1973; in seconds, the year 5138. Who sends less has probably sent seconds.
LIKELY_SECONDS_BELOW: Final = 10**11

Begun = HttpAnswer | asyncio.Future[Any]
Handler = Callable[[HttpRequest], Begun]

_METHODS: Final = frozenset({"GET", "HEAD", "POST"})

log = structlog.get_logger()


class App:
    """Answers requests, one call each.

    Attributes:
        backend: Who counts; may be exchanged while requests are under way.
        answered: How many well-formed requests were answered, by method ("other" if nothing here has it) and status.
        is_stopping: This process is going: each answer is the last on its connection.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.answered: Counter[tuple[str, int]] = Counter()
        self.is_stopping = False
        self._was_ready = False
        self._told = HourCounts(0, 0, 0), _numbers(HourCounts(0, 0, 0))
        self._seconds_warning = AtMostOncePer(60)
        self._routes: Mapping[bytes, Mapping[str, Handler]] = {
            b"/analytics": {"GET": self._read, "HEAD": self._read, "POST": self._record},
            b"/healthz": {"GET": self._health, "HEAD": self._health},
            b"/readyz": {"GET": self._readiness, "HEAD": self._readiness},
        }

    def stop(self) -> None:
        """Say from now on that this process is going; what is asked is still answered."""
        self.is_stopping = True

    def begin(self, request: HttpRequest) -> Begun:
        """Begin to answer: return the answer, or what ``finish`` makes it of. Never raises an ``Exception``."""
        try:
            begun = self._routes[request.path][request.method](request)
        except KeyError as exc:
            begun = self._without_handler(request) or self._failed(exc, request.method)
        except Exception as exc:  # noqa: BLE001 - those that are not expected are logged.
            begun = self._failed(exc, request.method)
        return self.counted(request.method, begun) if isinstance(begun, HttpAnswer) else begun

    def finish(self, request: HttpRequest, done: "asyncio.Future[Any]") -> HttpAnswer:
        """Return the answer to a request whose future is done."""
        error = done.exception()
        if error is not None:
            assert isinstance(error, Exception)
            answer = self._failed(error, request.method)
        else:
            result = done.result()
            answer = NO_CONTENT if result is None else self._to_answer(result)
        return self.counted(request.method, answer)

    def counted(self, method: str, answer: HttpAnswer) -> HttpAnswer:
        """Count the answer to a well-formed head, and return it."""
        self.answered[method if method in _METHODS else "other", answer.status] += 1
        return answer

    def _to_answer(self, result: HourCounts | HttpAnswer) -> HttpAnswer:
        """Return the answer that tells a result; readers who share a read share it, too."""
        if isinstance(result, HttpAnswer):
            return result
        if result is not self._told[0]:
            self._told = result, _numbers(result)
        return self._told[1]

    def _without_handler(self, request: HttpRequest) -> HttpAnswer | None:
        """Return the answer to a path or a method that is not known here; None if it is."""
        handlers = self._routes.get(request.path)
        if handlers is None:
            return _unknown_path(request.path)
        if request.method in handlers:
            return None
        allowed = ", ".join(handlers)
        detail = f"{request.path.decode()} answers to {allowed}"
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed})

    def _failed(self, error: Exception, method: str) -> HttpAnswer:
        answer = answer_to(error)
        if answer is None:
            log.error("request_failed", method=method, exc_info=error)
            answer = unexpected()
        return answer

    def _record(self, request: HttpRequest) -> Begun:
        overload = self.backend.overload()
        if overload is not None:  # The cheaper a refusal, the more is left for the others.
            return unavailable(str(overload))
        timestamp_ms, user, kind = parse_post(request.query)
        hour, key = hour_of(timestamp_ms), key_of(request.keys)
        recorded = self.backend.record(Event(hour, user, kind, key_hash(key, hour, user, kind) if key else b""))
        if timestamp_ms < LIKELY_SECONDS_BELOW:
            events = self._seconds_warning.passes(time.monotonic())
            if events:
                log.warning("timestamps_look_like_seconds", events=events, example_ms=timestamp_ms)
        return recorded

    def _read(self, request: HttpRequest) -> Begun:
        return self.backend.read_hour(hour_of(parse_get(request.query)))

    def _health(self, _request: HttpRequest) -> Begun:
        return text("ok\n")

    def _readiness(self, _request: HttpRequest) -> Begun:
        return awaited(self._tell_readiness(), name="readiness")

    async def _tell_readiness(self) -> HttpAnswer:
        """Say whether to send requests here.

        Not ready before every slot served once, so that a start in order has an order. Ready after that whatever the
        shards do: taking every gateway out of a load balancer for one slot would take the other slots out too.
        """
        reasons = await self.backend.not_serving()
        self._was_ready = self._was_ready or not reasons
        is_ready = self._was_ready and not self.is_stopping
        if self.is_stopping:
            reasons = ["this process is shutting down", *reasons]
        # Not a reason to wait with the first requests: the other slots, and what is not refused, are served.
        lines = ["ready" if is_ready else "not ready", *reasons, *self.backend.refusing()]
        return text("\n".join(lines) + "\n", HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _numbers(counts: HourCounts) -> HttpAnswer:
    return text(f"unique_users,{counts.unique_users}\nclicks,{counts.clicks}\nimpressions,{counts.impressions}\n")


def _unknown_path(path: bytes) -> HttpAnswer:
    if b"#" in path:
        return problem(HTTPStatus.BAD_REQUEST, "the path has a raw #; send it as %23")
    return problem(HTTPStatus.NOT_FOUND, "there is nothing here; try /analytics")
