"""The public gRPC service: every shard answers for any hour, and routes like a gateway."""

import math
from collections.abc import Sequence
from typing import Final, NoReturn

import grpc
import structlog

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.rpc.statuses import Context, refuse_argument, refuse_for_now
from tally.client.client import RoutedClient
from tally.errors import InDoubt, InvalidEvent, Overloaded, SetAside, TallyError, Unavailable
from tally.event import KEY_HEADER, TIMESTAMP_MS_MAX, Event, Refusal, check_key, invalid, key_hash, refusal_of
from tally.hashing import MS_PER_HOUR, hour_of

log = structlog.get_logger()

EVENTS_MAX: Final = 1000

_FIELDS: Final = {"timestamp": "timestamp_ms", KEY_HEADER: "idempotency_key"}
"""What is called otherwise here than in HTTP."""


def event_from_wire(wire: analytics_pb2.Event) -> Event:
    """Read one event.

    Raises:
        InvalidEvent: It can't be counted.
    """
    if wire.timestamp_ms > TIMESTAMP_MS_MAX:
        raise invalid(Refusal.HOUR_OUT_OF_RANGE)
    hour, user, key = hour_of(wire.timestamp_ms), wire.user.encode(), wire.idempotency_key
    refusal = refusal_of(hour, user, wire.kind)
    if refusal is not Refusal.COUNTED:
        raise invalid(refusal)
    if not key:
        return Event(hour, user, wire.kind)
    check_key(key)
    return Event(hour, user, wire.kind, key_hash(key, hour, user, wire.kind))


def events_from_wire(wires: Sequence[analytics_pb2.Event]) -> list[Event]:
    """Read the events of one call; each is looked at before any is counted.

    Raises:
        InvalidEvent: The first that can't be counted; the error names its place and field.
    """
    if not 1 <= len(wires) <= EVENTS_MAX:
        raise InvalidEvent("events", f"must be 1 to {EVENTS_MAX}, not {len(wires)}")
    events = []
    for place, wire in enumerate(wires):
        try:
            events.append(event_from_wire(wire))
        except InvalidEvent as exc:
            field = _FIELDS.get(exc.parameter, exc.parameter)
            raise InvalidEvent(f"events[{place}].{field}", exc.detail) from exc
    return events


def _events_or_refusal(request: analytics_pb2.RecordRequest) -> list[Event] | InvalidEvent:
    try:
        return events_from_wire(request.events)
    except InvalidEvent as exc:
        return InvalidEvent(exc.parameter, exc.detail)  # Another one: a traceback has the message in its frames.


class AnalyticsService(analytics_pb2_grpc.AnalyticsServicer):
    """``tally.v1.Analytics``."""

    def __init__(self, client: RoutedClient) -> None:
        self._client = client

    async def Record(self, request: analytics_pb2.RecordRequest, context: Context) -> analytics_pb2.RecordResponse:
        """Count events; see analytics.proto."""
        # Neither the message nor an error that leads to it outlives this step: there may be many, and clients be slow.
        events = _events_or_refusal(request)
        del request
        if isinstance(events, InvalidEvent):
            await _abort(context, events)
        try:
            await self._client.record_all(events, context.time_remaining())
        except TallyError as exc:
            await _abort(context, exc)
        return analytics_pb2.RecordResponse()

    async def GetHour(self, request: analytics_pb2.GetHourRequest, context: Context) -> analytics_pb2.GetHourResponse:
        """Tell an hour's numbers; see analytics.proto."""
        try:
            if request.timestamp_ms > TIMESTAMP_MS_MAX:
                raise InvalidEvent("timestamp_ms", "must be in the years 1970 to 9999")
            hour = hour_of(request.timestamp_ms)
            counts = await self._client.read_hour(hour, context.time_remaining())
        except TallyError as exc:
            await _abort(context, exc)
        return analytics_pb2.GetHourResponse(
            hour_start_ms=hour * MS_PER_HOUR,
            unique_users=counts.unique_users,
            clicks=counts.clicks,
            impressions=counts.impressions,
        )


async def _abort(context: Context, error: TallyError) -> NoReturn:
    """End a call with the status that the wire promises for ``error``."""
    match error:
        case InvalidEvent():
            await refuse_argument(context, error.parameter, error.detail)
        case InDoubt():
            # Without RetryInfo: a generic retry could count the event twice.
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        case Overloaded() | Unavailable():
            await refuse_for_now(context, str(error))
        case SetAside():
            # Which one: the others of the call can be sent again without it, at once.
            where = "" if error.place is None else f"events[{error.place}]: "
            await refuse_for_now(context, f"{where}{error}", after_s=math.ceil(error.for_s))
        case _:
            log.error("call_failed", error=repr(error))
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")
