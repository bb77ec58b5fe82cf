"""One client's connection, from its bytes to its answers, and what a stranger may do with it.

| input | what happens |
|---|---|
| requests behind one that is being answered | wait, and are not read beyond ``READ_BYTES`` |
| a head or a body that never gets complete | 408, closed; its time begins with its first byte and is not renewed |
| a head over ``HEAD_BYTES_MAX``, a body over ``BODY_BYTES_MAX`` | 431, 413, closed |
| unfinished requests of all connections over ``HELD_BYTES_MAX`` | the one that began first: 408, closed |
| answers that are not fetched | nothing more is answered; closed after the idle time |
| the client ends its side | answered what it asked, then closed; closed at once if it is owed nothing |
| one connection too many | closes the one that has waited for its client longest; 503 if all of them wait for us |
| input that is not HTTP | 400, closed, and a line at info now and then, without the input |

Pipelined requests are answered in order, one at a time. After the last answer our side ends, and what still comes in is
thrown away for a moment: a reset would take the answer from the client. What heads may look like is left to
``malformed.py``, bodies to ``body.py``; what the phases of a connection are, to ``waiting.py``.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import structlog

from gateway.answers import HttpAnswer, Writer
from gateway.app import App
from gateway.body import broken
from gateway.connections import Connections
from gateway.heads import HeadReader, HeadRefused
from gateway.hot_lane import HOT_BYTES_MAX, HotLane
from gateway.inbox import Inbox
from gateway.problems import Refused, refused
from gateway.request import HttpRequest
from gateway.timing import AtMostOncePer, Turns
from gateway.waiting import Phase

READ_BYTES: Final = 8192
HELD_BYTES_MAX: Final = 128 * 2**20
# How long what comes behind the last answer is read and thrown away.
_LINGER_S: Final = 1.0
_TELL_AGAIN_S: Final = 1.0
# Of pipelined requests; then the loop looks for others, such as a new client.
_TURNS_AT_ONCE: Final = 64
_WRITE_BUFFER_BYTES: Final = 4096  # What an answer that is not fetched may take here, beside the kernel's buffer.
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNKNOWN: Final = HttpRequest("", b"", b"", closes=True)  # Stands for a request that could not be read.

# A member of an enum costs as much to look up as the rest of a line.
_IDLE, _HEAD, _BODY, _ANSWERING = Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.ANSWERING
_UNREAD, _LINGERING, _ENDED = Phase.UNREAD, Phase.LINGERING, Phase.ENDED

log = structlog.get_logger()


class HttpServer:
    """Makes a ``Connection`` for each client; a factory of protocols for the event loop.

    Attributes:
        app: Answers requests.
        lane: Reads hot requests.
        heads: Reads the others.
        writer: Writes answers.
        loop: The one that it serves in.
        connections: Those that are open, and their bounds.
        turns: Of connections that have sent more than one request.
        read_buffer: Where each connection reads into.
    """

    def __init__(
        self,
        app: App,
        *,
        header_timeout_s: float,
        idle_timeout_s: float,
        connections: int,
        held_bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        """Prepare to serve; must be called where the event loop runs.

        Args:
            app: Answers requests.
            header_timeout_s: How long a head may take, from its first byte or from connecting; its body has as long.
            idle_timeout_s: How long a connection may lie idle between two requests, or an answer wait to be fetched.
            connections: How many may be open at a time.
            held_bytes_max: How many bytes of unfinished requests they may hold together.
        """
        self.loop = loop = asyncio.get_running_loop()
        self.app = app
        self.lane = HotLane()
        self.heads = HeadReader(loop)
        self.writer = Writer()
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        self.connections = Connections(
            loop,
            limits_s={
                Phase.IDLE: idle_timeout_s,
                Phase.HEAD: header_timeout_s,
                Phase.BODY: header_timeout_s,
                Phase.UNREAD: idle_timeout_s,
                Phase.LINGERING: _LINGER_S,
            },
            connections_max=connections,
            held_bytes_max=held_bytes_max,
        )
        self.turns = Turns(loop, _TURNS_AT_ONCE)
        self._refusals: dict[HTTPStatus, AtMostOncePer] = {}

    def __call__(self) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self)

    def tell_refusal(self, refusal: Refused) -> None:
        """Log a refusal, unless there was another one like it just now: strangers must not fill the log."""
        told = self._refusals.setdefault(refusal.status, AtMostOncePer(_TELL_AGAIN_S))
        requests = told.passes(asyncio.get_running_loop().time())
        if requests:
            log.info("request_refused", status=refusal.status.value, detail=refusal.detail, requests=requests)


class Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "_answering",
        "_app",
        "_connections",
        "_has_ended",
        "_has_turn",
        "_inbox",
        "_is_reading",
        "_is_unread",
        "_lane",
        "_loop",
        "_read_buffer",
        "_server",
        "_transport",
        "_waiting",
        "_writer",
        "phase",
    )

    def __init__(self, server: HttpServer) -> None:
        self.phase = _HEAD
        self._server = server
        self._app = server.app
        self._writer = server.writer
        self._read_buffer = server.read_buffer
        self._connections = server.connections
        self._waiting = server.connections.waiting
        self._lane = server.lane
        self._loop = server.loop
        self._transport: asyncio.Transport | None = None
        self._inbox = Inbox(server.lane, server.heads)
        self._answering: tuple[HttpRequest, asyncio.Future[Any]] | None = None
        self._has_ended = False  # The client's side.
        self._is_reading = True
        self._is_unread = False  # The client does not fetch what is written.
        self._has_turn = False  # The next request is begun soon.

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._connections.add(self)
        if self.phase is _HEAD:
            self._move(_HEAD)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - the signature is asyncio's.
        """Forget what knows this connection: it is freed then, and not when the garbage collector comes by."""
        self._transport = None
        self._release()
        self._end()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where to read into; all connections share it, for what is read is taken at once."""
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read: begin the request that it is, or completes, or keep it."""
        data = self._read_buffer[:nbytes].tobytes()
        if self.phase <= _HEAD and not self._inbox.buffer:
            request = self._lane.read(data) if nbytes <= HOT_BYTES_MAX else None
            if request is not None:
                self._begin(request)
                return
        if self.phase < _LINGERING:
            self._inbox.add(data)
            if self._has_turn:
                self._balance()
            else:
                self.take_turn()

    def eof_received(self) -> bool:
        """Go on while answers are due: a client may end its side and still read, as ``nc -N`` does."""
        self._has_ended = True
        if self.phase in (_ANSWERING, _UNREAD) or self._has_turn:
            return True
        self._end_within(self.phase is not _ENDED and self._inbox.is_within_request)
        return False

    def pause_writing(self) -> None:
        """Answer nothing more until the client has fetched what is written."""
        self._is_unread = True

    def resume_writing(self) -> None:
        """Go on: the client fetched something."""
        self._is_unread = False
        if self.phase is _UNREAD and self._transport is not None and not self._transport.is_closing():
            self._move(_IDLE)
            self.take_turn()

    # Requests.

    def take_turn(self) -> None:
        """Begin the next request if it is complete.

        One at a time, even if it is answered at once: between two requests of one client all others have their turn.
        """
        self._has_turn = False
        request = None
        try:
            if self.phase <= _BODY:
                request = self._inbox.next_request()
                if request is not None:
                    self._begin(request)
        except Refused as exc:
            self._refuse(exc)
        if self.phase <= _BODY:
            if request is not None and self._inbox.buffer:
                self._has_turn = True
                self._server.turns.add(self.take_turn)
            else:
                self._wait_for_rest()
        self._balance()

    def _wait_for_rest(self) -> None:
        """Begin the time of a head or a body that is not complete, unless nothing more can come."""
        inbox = self._inbox
        if self._has_ended:
            self._end_within(inbox.is_within_request)
        elif inbox.is_in_body and self.phase is not _BODY:
            self._move(_BODY)
            if inbox.expects_continue and not inbox.buffer:
                self._write(_CONTINUE)
        elif inbox.buffer and self.phase is _IDLE:
            self._move(_HEAD)

    def _end_within(self, is_within_request: bool) -> None:
        """End, for the client ended its side."""
        if is_within_request:
            self._refuse(broken())
        else:
            self._close()

    # Answers.

    def _begin(self, request: HttpRequest) -> None:
        begun = self._app.begin(request)
        if isinstance(begun, HttpAnswer):
            self._answer(request, begun)
        else:
            self._waiting.move(self, self.phase, _ANSWERING, 0.0)
            self.phase = _ANSWERING
            self._answering = request, begun
            begun.add_done_callback(self._is_answered)

    def _is_answered(self, _done: "asyncio.Future[Any]") -> None:
        assert self._answering is not None
        (request, done), self._answering = self._answering, None
        if done.cancelled():
            self.abort()
            return
        answer = self._app.finish(request, done)
        if self.phase is _ANSWERING:
            self._answer(request, answer)
            if self._inbox.buffer or self._has_ended:
                self.take_turn()

    def _answer(self, request: HttpRequest, answer: HttpAnswer) -> None:
        """Send an answer; then wait for the next request, or end."""
        is_last = self._has_ended and not self._inbox.buffer
        closes = request.closes or answer.closes or self._app.is_stopping or is_last
        if request.is_http_1_0 or request.method == "HEAD":
            data = self._writer.to_bytes_for(request, answer, closes=closes)
        else:
            data = self._writer.to_bytes(answer, closes=closes)
        self._write(data)
        if closes:
            self._linger()
            return
        before, self.phase = self.phase, _UNREAD if self._is_unread else _IDLE
        self._waiting.move(self, before, self.phase, self._loop.time())

    def _refuse(self, refusal: Refused) -> None:
        """Answer with ``refusal``, and read no more."""
        if isinstance(refusal, HeadRefused):
            request = _UNKNOWN._replace(method=refusal.method)
            answer = self._app.counted(request.method, refused(refusal))
        else:
            request, answer = _UNKNOWN, refused(refusal)
        self._server.tell_refusal(refusal)
        self._answer(request, answer)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # The end.

    def refuse_one_too_many(self) -> None:
        """Turn the client away: there are too many, and all of them wait for us."""
        self._refuse(Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open"))

    def be_late(self) -> None:
        """End a phase that has lasted too long."""
        if self.phase in (_HEAD, _BODY) and self._inbox.is_within_request:
            self.refuse_unfinished()
        elif self.phase is _LINGERING and self._unsent_bytes:
            self._move(_UNREAD)
        elif self.phase is _UNREAD:
            self.abort()
        else:
            self._close()

    def refuse_unfinished(self) -> None:
        """Give up a request that is not complete, and what is held of it."""
        self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"))

    def make_way(self) -> None:
        """End at once, for others."""
        if self.phase in (_HEAD, _BODY) and self._inbox.is_within_request:
            self.refuse_unfinished()
        if self.phase is _UNREAD:
            self.abort()
        else:
            self._close()

    def stop(self) -> None:
        """End as soon as the request under way is answered."""
        if self.phase <= _BODY or self.phase is _UNREAD:
            self._close()

    def abort(self) -> None:
        """End at once; what is not sent yet is lost."""
        self._release()
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def _linger(self) -> None:
        """End our side. The client's is awaited for a moment, unless it has ended."""
        self._release()
        if self._has_ended:
            self._close()
        elif self._transport is not None and not self._transport.is_closing():
            self._move(_LINGERING)
            try:
                self._transport.write_eof()
            except OSError:  # The client has reset the connection, and the loop has not noticed yet.
                self.abort()
        self._balance()

    def _close(self) -> None:
        """Close when all is sent, or after a time."""
        self._release()
        if self._transport is not None:
            self._transport.close()
            if self._unsent_bytes and self.phase is not _ENDED:
                self._move(_UNREAD)
            else:
                self._end()

    @property
    def _unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _release(self) -> None:
        """Give back what is held of requests."""
        self._inbox.clear()
        self._connections.hold(self, 0)

    def _move(self, phase: Phase) -> None:
        before, self.phase = self.phase, phase
        self._waiting.move(self, before, phase, self._loop.time())

    def _end(self) -> None:
        """Count no more among those that are open."""
        self._connections.remove(self)
        self.phase = _ENDED

    def _balance(self) -> None:
        """Tell what is held of an unfinished request; read no more while complete ones wait."""
        has_complete = self._has_turn or self.phase in (_ANSWERING, _UNREAD)
        self._connections.hold(self, 0 if has_complete or self.phase > _BODY else self._inbox.held_bytes)
        is_reading = not (self._inbox.buffer and has_complete)
        if is_reading is not self._is_reading and self._transport is not None and not self._transport.is_closing():
            self._is_reading = is_reading
            if is_reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
