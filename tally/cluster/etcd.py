"""The one file that talks to etcd: reads, transactions and leases, over grpc.aio with the stubs of ``etcd3``.

Invariants:
  * every message has a deadline, and every failure becomes an error of ours;
  * reads are linearizable;
  * a transaction leaves for one endpoint only: one that got no answer may have been done.

``etcd3`` has no types: what is ``Any`` in here does not leave it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
from etcd3 import etcdrpc as rpc

from tally.cluster.etcd_failures import AUTH_IS_OFF, STALE_TOKEN, Failure, failure_of
from tally.cluster.etcd_tls import TlsFiles, tls_failure
from tally.cluster.etcd_words import (
    Committed,
    Compare,
    CreateRevision,
    Delete,
    EtcdSettings,
    ModRevision,
    Put,
    Snapshot,
    ValueIs,
    parse_endpoints,
)
from tally.cluster.state import KeyValue
from tally.errors import EtcdFull, EtcdRefused, EtcdUnavailable, LeaseGone, TallyError
from tally.tasks import answer_of, aside, is_cancelled

__all__ = [
    "Committed",
    "Compare",
    "CreateRevision",
    "Delete",
    "Etcd",
    "EtcdSettings",
    "ModRevision",
    "Put",
    "Snapshot",
    "ValueIs",
    "parse_endpoints",
]

T = TypeVar("T")

_OPTIONS: Final = (
    # Only while a call runs, and not more often: etcd hangs up on clients that ping more.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # An endpoint that moved is found at once: gRPC would look a name up every 30 s only.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # A proxy for the way out of the house has nothing to do with the way to etcd.
    ("grpc.enable_http_proxy", 0),
    # Else a new channel would take over the connection of the one that it replaces.
    ("grpc.use_local_subchannel_pool", 1),
)

_NO_CONNECTION: Final = "no connection"
_TOO_LATE: Final = "no answer in time"
# Else a member that has lost the others keeps us waiting until the deadline, instead of sending us to the next one.
_ONLY_WITH_LEADER: Final = ("hasleader", "true")
_ALARMS: Final = {1: "NOSPACE", 2: "CORRUPT"}  # The stubs know the first one only.


class _Node:
    """One endpoint: a channel, and the stubs over it."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(target, _OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(target, credentials, _OPTIONS)
        self.kv: Any = rpc.KVStub(self.channel)
        self.lease: Any = rpc.LeaseStub(self.channel)
        self.auth: Any = rpc.AuthStub(self.channel)
        self.maintenance: Any = rpc.MaintenanceStub(self.channel)

    async def connected(self) -> bool:
        """Wait until it is known whether the endpoint takes connections; True if it does."""
        while True:
            state = self.channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                return True
            if state in {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}:
                return False
            await self.channel.wait_for_state_change(state)


class _NotLoggedIn(Exception):
    """The log-in failed, so the question was not asked."""

    def __init__(self, cause: grpc.aio.AioRpcError) -> None:
        super().__init__(cause)
        self.cause = cause


class Etcd:
    """A connection to etcd. Belongs to one event loop; all methods may run at the same time.

    All of them raise ``EtcdUnavailable`` if no endpoint answers, ``EtcdRefused`` if all refuse. Those that
    write raise ``EtcdFull`` if etcd takes nothing more.
    """

    def __init__(self, settings: EtcdSettings, *, timeout_s: float = 2.0) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            settings: Where etcd is.
            timeout_s: How long one endpoint has for one answer; with n endpoints a read takes n times that at most.

        Raises:
            ConfigError: A certificate can't be read.
        """
        self._settings = settings
        self._timeout_s = timeout_s
        self._tls = TlsFiles(settings)
        self._nodes: dict[str, _Node] = {}
        self._given_up: set[asyncio.Task[None]] = set()
        self._first = 0  # The endpoint to begin with: the last that answered.
        self._token: str | None = None  # "" where etcd asks for none.

    async def read(self, key: str) -> KeyValue | None:
        """Read one key; None if there is no such key."""
        found = (await self._range(rpc.RangeRequest(key=key.encode()))).found
        return found[0] if found else None

    async def read_prefix(self, prefix: str, *, min_mod_revision: int = 0) -> Snapshot:
        """Read the keys that begin with ``prefix`` and were written in revision ``min_mod_revision`` or later.

        Cost: the keys left out are counted, but not sent.
        """
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])  # The first key after all that begin with the prefix.
        return await self._range(rpc.RangeRequest(key=start, range_end=end, min_mod_revision=min_mod_revision))

    async def commit(self, compare: Sequence[Compare], then: Sequence[Put | Delete]) -> Committed:
        """Do all of ``then`` at once, if all of ``compare`` is true.

        Raises:
            EtcdUnavailable: No answer; it may have been done, or be done yet. Read before you repeat it.
            LeaseGone: A lease to put a key under has run out; nothing was done.
        """
        request = rpc.TxnRequest(
            compare=[_comparison(one) for one in compare], success=[_operation(one) for one in then]
        )
        answer = await self._ask(lambda node: node.kv.Txn(request, **self._terms()), repeatable=False)
        return Committed(bool(answer.succeeded), int(answer.header.revision))

    async def grant_lease(self, ttl_s: int) -> int:
        """Return a new lease that runs out ``ttl_s`` seconds after it was last kept alive."""
        answer = await self._ask(lambda node: node.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=ttl_s), **self._terms()))
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> int:
        """Renew a lease; return how many seconds it has now, 0 if it has run out."""

        async def renew(node: _Node) -> int:
            # A stream of one request ends by itself after one answer.
            requests = iter((rpc.LeaseKeepAliveRequest(ID=lease),))
            answers = [answer async for answer in node.lease.LeaseKeepAlive(requests, **self._terms())]
            return max((int(answer.TTL) for answer in answers), default=0)

        return await self._ask(renew)

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it the keys under it; one that has run out is no error."""
        try:
            await self._ask(lambda node: node.lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease), **self._terms()))
        except LeaseGone:
            return

    async def alarms(self) -> tuple[str, ...]:
        """Return the alarms that stand in etcd, such as NOSPACE, sorted; each once, whichever members it is of."""
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET, alarm=0)
        answer = await self._ask(lambda node: node.maintenance.Alarm(request, **self._terms()))
        return tuple(sorted({_ALARMS.get(one.alarm, str(one.alarm)) for one in answer.alarms}))

    async def close(self) -> None:
        """Close all connections; call it when nothing is under way any more."""
        for task in self._given_up:
            task.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)
        for node in self._nodes.values():
            await node.channel.close()
        self._nodes.clear()

    async def _range(self, request: Any) -> Snapshot:
        answer = await self._ask(lambda node: node.kv.Range(request, **self._terms()))
        found = tuple(
            KeyValue(kv.key.decode("utf-8", "replace"), bytes(kv.value), int(kv.mod_revision), int(kv.create_revision))
            for kv in answer.kvs
        )
        return Snapshot(int(answer.header.revision), found, int(answer.count))

    async def _ask(self, question: Callable[[_Node], Awaitable[T]], *, repeatable: bool = True) -> T:
        """Ask the endpoints in turn, beginning with the one that answered last; see ``etcd_failures``."""
        targets = self._settings.targets
        first, cause = self._first, None
        reasons: dict[str, str] = {}
        refusals: list[str] = []
        voices = len(targets)
        for at in ((first + step) % len(targets) for step in range(len(targets))):
            node = self._node(targets[at])
            if not repeatable and not await self._connected(node):
                reasons[targets[at]] = await self._why_not_connected(node)
                continue
            try:
                answer = await self._answer(node, question)
            except (grpc.aio.AioRpcError, _NotLoggedIn) as exc:
                cause = exc if isinstance(exc, grpc.aio.AioRpcError) else exc.cause
                failure = failure_of(cause.code(), cause.details() or "")
                if failure.of_all:
                    raise _failed(failure, ",".join(targets), _reason(cause)) from cause
                reasons[targets[at]] = _reason(cause)
                refusals += [_reason(cause)] if failure is Failure.REFUSED else []
                voices -= failure is Failure.NO_VOICE
                self._first = (at + 1) % len(targets)
                if cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._give_up(targets[at], node)
                if not repeatable and failure is Failure.OPEN and cause is exc:
                    break
            else:
                self._first = at
                return answer
        if refusals and len(refusals) == voices:
            raise EtcdRefused("; ".join(dict.fromkeys(refusals))) from cause
        raise EtcdUnavailable(",".join(targets), _summed_up(targets, reasons)) from cause

    def _give_up(self, target: str, node: _Node) -> None:
        """Connect anew for the next question: a connection without an answer may be dead, and pings are rare."""
        if self._nodes.get(target) is node:
            del self._nodes[target]
            task = aside(self._close_later(node), name=f"end of a connection to {target}")
            self._given_up.add(task)
            task.add_done_callback(self._given_up.discard)

    async def _close_later(self, node: _Node) -> None:
        try:
            # Others may have the node in hand: to connect, to log in, to ask, to log in again, to ask again.
            await asyncio.sleep(5 * self._timeout_s)
        finally:
            await node.channel.close()

    async def _answer(self, node: _Node, question: Callable[[_Node], Awaitable[T]]) -> T:
        """Ask one endpoint; that its channel is closed meanwhile, because it was given up, is a failure of the call."""
        try:
            return await answer_of(self._with_token(node, question))
        except (asyncio.CancelledError, grpc.aio.UsageError) as exc:
            if isinstance(exc, asyncio.CancelledError) and is_cancelled():
                raise
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, _TOO_LATE) from exc

    async def _with_token(self, node: _Node, question: Callable[[_Node], Awaitable[T]]) -> T:
        """Ask one endpoint; log in before, if need be, and again if etcd has forgotten us."""
        if self._settings.user is not None and self._token is None:
            await self._log_in(node)
        try:
            return await question(node)
        except grpc.aio.AioRpcError as exc:
            if self._settings.user is None or not _says(exc, *STALE_TOKEN):
                raise
        # Refused for its token, so nothing was done: even a transaction may go again.
        await self._log_in(node)
        return await question(node)

    async def _log_in(self, node: _Node) -> None:
        request = rpc.AuthenticateRequest(name=self._settings.user, password=self._settings.password)
        try:
            self._token = str((await node.auth.Authenticate(request, timeout=self._timeout_s)).token)
        except grpc.aio.AioRpcError as exc:
            if not _says(exc, AUTH_IS_OFF):
                raise _NotLoggedIn(exc) from exc
            self._token = ""  # Like etcdctl: a user does no harm where none is needed.

    async def _connected(self, node: _Node) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await node.connected()
        except (TimeoutError, grpc.aio.UsageError):
            return False
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return False

    async def _why_not_connected(self, node: _Node) -> str:
        """Return why an endpoint takes no connection; the state of a channel does not tell, a failed question does."""
        try:
            await node.kv.Range(rpc.RangeRequest(key=b"/", count_only=True), **self._terms())
        except grpc.aio.AioRpcError as exc:
            return _reason(exc)
        except (asyncio.CancelledError, grpc.aio.UsageError):
            if is_cancelled():
                raise
        return _NO_CONNECTION

    def _terms(self) -> dict[str, Any]:
        """What goes with every message, as of now."""
        token = (("token", self._token),) if self._token else ()
        return {"timeout": self._timeout_s, "metadata": (_ONLY_WITH_LEADER, *token)}

    def _node(self, target: str) -> _Node:
        """Return the connection to an endpoint; made when it is needed, because a channel belongs to a running loop."""
        if self._tls.renewed():
            for other, node in list(self._nodes.items()):
                self._give_up(other, node)
        if target not in self._nodes:
            self._nodes[target] = _Node(target, self._tls.credentials)
        return self._nodes[target]


def _comparison(compare: Compare) -> Any:
    """Return the message for one comparison."""
    key = compare.key.encode()
    match compare:
        case CreateRevision():
            return rpc.Compare(
                key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=compare.equals
            )
        case ModRevision():
            return rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=compare.equals)
        case ValueIs():
            return rpc.Compare(
                key=key, target=rpc.Compare.VALUE, result=rpc.Compare.EQUAL, value=_bytes(compare.equals)
            )


def _operation(operation: Put | Delete) -> Any:
    """Return the message for one thing to do."""
    key = operation.key.encode()
    match operation:
        case Put():
            put = rpc.PutRequest(key=key, value=_bytes(operation.value), lease=operation.lease)
            return rpc.RequestOp(request_put=put)
        case Delete():
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _failed(failure: Failure, targets: str, reason: str) -> TallyError:
    """Return our error for what all members would say."""
    return EtcdFull(targets, reason) if failure is Failure.FULL else LeaseGone(reason)


def _reason(exc: grpc.aio.AioRpcError) -> str:
    """Return what an operator needs to know of a failure."""
    if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _TOO_LATE
    if (failure := tls_failure(exc.details() or "")) is not None:
        return failure
    if _says(exc, "failed to connect to all addresses"):
        return _NO_CONNECTION
    return exc.details() or exc.code().name


def _summed_up(targets: Sequence[str], reasons: Mapping[str, str]) -> str:
    """Return why none gave an answer; of a single one without its name."""
    if len(targets) == 1:
        return reasons[targets[0]]
    return "; ".join(f"{target}: {reasons[target]}" for target in targets if target in reasons)


def _says(exc: grpc.aio.AioRpcError, *texts: str) -> bool:
    """Whether etcd's own words are among these; its codes alone do not tell such errors apart."""
    return any(text in (exc.details() or "") for text in texts)
