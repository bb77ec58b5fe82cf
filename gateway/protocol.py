"""HTTP as aiohttp speaks it, made strict: what a stranger may send, how much of it, and how long it may take.

What aiohttp 3.14 does untouched, and what is changed here:

| input | aiohttp | here |
|---|---|---|
| request target over 8190 bytes | 400 | 414 |
| header over 8 KiB, too many headers | 400 | 431 |
| HTTP/0.9, HTTP/2.0 on the request line | served | 505, closed |
| absolute-form, authority-form, ``*`` as the target | served, or the connection hangs | 400, closed |
| ``Upgrade``; what is pipelined behind it may get lost | ignored | ignored, then closed |
| a head that never gets complete | waited for | 408, closed |
| a body that breaks off within its chunks | waited for | 400, closed |
| an answer that is not fetched | waited for | closed |
| the client ends its side while it waits | no answer | answered, then closed |
| one connection too many | served | 503, closed |
| input that is not HTTP | a traceback in the log | one line at info, without the input |

Pipelined requests are answered in order; aiohttp stops reading when 32 of them wait. How large a body may be is left
to ``body.py``.

While aiohttp has nothing of a connection, neither a request nor a part of one, a request may take the hot lane past it;
then what comes behind it waits until it is answered, and is not even read.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from gateway.answers import HttpAnswer, Writer, to_response
from gateway.app import App
from gateway.hot_lane import HOT_BYTES_MAX, HotLane, HotRequest
from gateway.malformed import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    TARGET_BYTES_MAX,
    refusal_of_error,
    refusal_of_head,
)
from gateway.problems import Refused, refused, unexpected
from gateway.timing import Alarm

# How long what follows a refused body is read and thrown away, so that the client gets to see the answer.
_LINGER_S: Final = 1.0

log = structlog.get_logger()


class HttpServer(web.Server):
    """Makes a ``Connection`` for each client, and knows those that are open.

    Args:
        app: Answers requests.
        header_timeout_s: How long a head may take, from its first byte or from connecting.
        idle_timeout_s: How long a connection may lie idle between two requests, or an answer wait to be fetched.
        connections: How many may be open at a time.
    """

    def __init__(
        self,
        app: App,
        *,
        header_timeout_s: float,
        idle_timeout_s: float,
        connections: int,
    ) -> None:
        super().__init__(app.answer)
        self.app = app
        self.lane = HotLane()
        self.writer = Writer()
        self.header_timeout_s = header_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self._connections_max = connections

    def __call__(self) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self, self._loop)

    @property
    def is_crowded(self) -> bool:
        """Whether more connections are open than allowed."""
        return len(self._connections) > self._connections_max


class Connection(RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_fetch_alarm",
        "_has_ended",
        "_has_part_of_head",
        "_head_alarm",
        "_held",
        "_hot",
        "_is_at_boundary",
        "_is_refused",
        "_newest_body",
        "_server",
    )

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=server.idle_timeout_s,
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp turns it off.
            max_line_size=TARGET_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=_LINGER_S,
            auto_decompress=False,  # Bodies are thrown away; a small one must not grow first.
        )
        self._server = server
        self._head_alarm = Alarm(loop, server.header_timeout_s)
        self._fetch_alarm = Alarm(loop, server.idle_timeout_s)
        self._has_part_of_head = False
        self._is_refused = False
        self._has_ended = False
        self._newest_body = EMPTY_PAYLOAD
        self._is_at_boundary = True  # aiohttp's parser holds no part of a request.
        self._hot: tuple[HotRequest, asyncio.Future[Any]] | None = None  # What the hot lane is to answer.
        self._held = b""  # What came behind that.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, or turn away the one too many."""
        super().connection_made(transport)
        if self._server.is_crowded:
            self._refuse(Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open"))
        else:
            self._head_alarm.start(self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what knows this connection: it is freed then, and not when the garbage collector comes by."""
        self._head_alarm.stop()
        self._fetch_alarm.stop()
        self._newest_body = EMPTY_PAYLOAD
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look at the requests that are now complete before aiohttp begins to serve them."""
        if self._is_refused:
            return  # Nothing that follows can be understood.
        if self._hot is not None:
            self._hold(data)
            return
        if self._is_at_boundary and len(data) <= HOT_BYTES_MAX and self._is_idle and not self._paused:
            request = self._server.lane.read(data)
            if request is not None:
                self._take_hot_lane(request)
                return
        before, is_body = self._request_count, not self._newest_body.is_eof()
        super().data_received(data)
        self._is_at_boundary = False
        if self._request_count > before:
            self._has_part_of_head = False
            self._head_alarm.stop()
            self._check_newest(self._request_count - before)
            # An end of a head at the very end, and no body begun: there can be no part of a next request.
            self._is_at_boundary = data.endswith(b"\r\n\r\n") and self._newest_body.is_eof()
        elif data and not is_body:
            # The parser does not tell what it holds back: a part that came in one packet with a complete request starts
            # its time with its next byte, or falls to the idle time-out.
            self._has_part_of_head = True
            self._head_alarm.start(self._head_is_late)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it; aiohttp always closes.
        """Go on while answers are due: a client may end its side and still read, as ``nc -N`` does."""
        self._has_ended = True
        if not self._newest_body.is_eof():
            self._newest_body.set_exception(RequestPayloadError())
        return self._hot is not None or (self._request_count > 0 and not self._is_idle)

    @property
    def _is_idle(self) -> bool:
        """No request is being answered by aiohttp, or about to be, and it is not about to close the connection."""
        return self._waiter is not None and not self._waiter.done()

    # The hot lane.

    def _take_hot_lane(self, request: HotRequest) -> None:
        self._head_alarm.stop()
        begun = self._server.app.begin(request)
        if isinstance(begun, HttpAnswer):
            self._write_hot(begun)
        else:
            self._hot = request, begun
            begun.add_done_callback(self._hot_is_done)

    def _hot_is_done(self, _done: "asyncio.Future[Any]") -> None:
        assert self._hot is not None
        (request, done), self._hot = self._hot, None
        if done.cancelled():
            self.force_close()
            return
        answer = self._server.app.finish(request, done)
        if self.transport is not None and not self.transport.is_closing():
            self._write_hot(answer)
        if self._held and self.transport is not None:
            held, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(held)

    def _write_hot(self, answer: HttpAnswer) -> None:
        assert self.transport is not None
        closes = self._server.app.is_stopping or self._close or (self._has_ended and not self._held)
        self.transport.write(self._server.writer.to_bytes(answer, closes=closes))
        if closes or answer.closes:
            self.force_close()  # What is written is sent before.
        else:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def _hold(self, data: bytes) -> None:
        """Keep what comes behind a request of the hot lane, and read no more; one read of a socket has a bound."""
        if not self._held and self.transport is not None:
            self.transport.pause_reading()
        self._held += data

    def _process_keepalive(self) -> None:
        if self._hot is not None:  # It is not idle; aiohttp does not know.
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - the signature is aiohttp's.
        """Let the request under way be answered, for at most ``timeout`` seconds; then close."""
        if self._hot is not None:
            await asyncio.wait([self._hot[1]], timeout=timeout)
        await super().shutdown(timeout)

    @property
    def is_at_last_request(self) -> bool:
        """The client ended its side, and nothing waits behind the request that is being answered."""
        return self._has_ended and not self._messages

    def pause_writing(self) -> None:
        """Give a client that fetches no answers a time to do so."""
        super().pause_writing()
        self._fetch_alarm.start(self._abort)

    def resume_writing(self) -> None:
        """Go on: the client fetched something."""
        self._fetch_alarm.stop()
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  The signature is aiohttp's.
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or is refused. A traceback would help nobody but who wants a full disk."""
        if isinstance(exc, HttpProcessingError):
            exc.__traceback__ = None  # It leads to a frame that holds the error, and the connection with it, for ever.
            exc = refusal_of_error(exc)
        if not isinstance(exc, Refused):
            log.error("request_failed", exc_info=exc)
            return to_response(unexpected()._replace(closes=True))
        log.info("request_refused", status=exc.status.value, detail=exc.detail)
        return to_response(refused(exc))

    def log_exception(self, *_args: Any, exc_info: BaseException | None = None, **_more: Any) -> None:
        """Log what aiohttp did not expect; a broken body behind a refusal is nothing new."""
        if not isinstance(exc_info, RequestPayloadError):
            log.error("connection_failed", exc_info=exc_info)

    def _check_newest(self, count: int) -> None:
        """Refuse what aiohttp would serve and we do not, among the last ``count`` messages of the queue."""
        for index in range(len(self._messages) - count, len(self._messages)):
            message, body = self._messages[index]
            if isinstance(message, _ErrInfo):
                self._is_refused = True
                if not self._newest_body.is_eof():  # aiohttp would let its reader wait.
                    self._newest_body.set_exception(RequestPayloadError())
                return
            refusal = refusal_of_head(message)
            if refusal is not None:
                while len(self._messages) > index:
                    self._messages.pop()
                self._refuse(refusal)
                return
            if message.upgrade:
                self._messages[index] = (message._replace(should_close=True), body)
            self._newest_body = body

    def _refuse(self, refusal: Refused) -> None:
        """Answer with ``refusal`` after all that is waiting already, and read no more."""
        self._is_refused = True
        self._messages.append((_ErrInfo(refusal.status.value, refusal, refusal.detail), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _head_is_late(self) -> None:
        if self._has_part_of_head:
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"))
        else:
            self.force_close()  # It asked for nothing, such as a browser that connects in advance.

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
