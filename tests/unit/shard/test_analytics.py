"""What a shard reads from the public wire, and how it says what is wrong."""

import pytest

from protos.tally.v1 import analytics_pb2
from shard.rpc.analytics import EVENTS_MAX, event_from_wire, events_from_wire
from tally.errors import InvalidEvent
from tally.event import HOUR_MAX, TIMESTAMP_MS_MAX, Event, Kind, key_hash


def wire(
    timestamp_ms: int = 3_600_000,
    user: str = "ann",
    kind: analytics_pb2.Kind.ValueType = analytics_pb2.KIND_CLICK,
    key: str = "",
) -> analytics_pb2.Event:
    return analytics_pb2.Event(timestamp_ms=timestamp_ms, user=user, kind=kind, idempotency_key=key)


def test_kinds_on_the_wire_are_the_kinds_that_are_stored() -> None:
    on_the_wire = {name.removeprefix("KIND_"): number for name, number in analytics_pb2.Kind.items()}
    assert on_the_wire == {"UNSPECIFIED": 0} | {kind.name: int(kind) for kind in Kind}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (wire(), Event(1, b"ann", Kind.CLICK)),
        (wire(timestamp_ms=0), Event(0, b"ann", Kind.CLICK)),
        (wire(timestamp_ms=TIMESTAMP_MS_MAX), Event(HOUR_MAX, b"ann", Kind.CLICK)),
        (wire(user="Zoë"), Event(1, "Zoë".encode(), Kind.CLICK)),
        (wire(kind=analytics_pb2.KIND_IMPRESSION), Event(1, b"ann", Kind.IMPRESSION)),
        (wire(key="a key"), Event(1, b"ann", Kind.CLICK, key_hash("a key", 1, b"ann", Kind.CLICK))),
    ],
)
def test_event_is_read(event: analytics_pb2.Event, expected: Event) -> None:
    assert event_from_wire(event) == expected


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (wire(timestamp_ms=TIMESTAMP_MS_MAX + 1), "timestamp_ms"),
        (wire(timestamp_ms=2**64 - 1), "timestamp_ms"),
        (wire(user=""), "user"),
        (wire(user="x" * 257), "user"),
        (wire(user="a\nb"), "user"),
        (wire(key=" "), "idempotency_key"),
        (wire(key="a\tb"), "idempotency_key"),
        (wire(key="é"), "idempotency_key"),
        (wire(key="k" * 129), "idempotency_key"),
        (wire(kind=analytics_pb2.KIND_UNSPECIFIED), "kind"),
        (wire(kind=7), "kind"),  # type: ignore[arg-type] # A later version may have such a kind.
    ],
)
def test_first_event_that_can_not_be_counted_is_named(event: analytics_pb2.Event, field: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        events_from_wire([wire(), wire(), event, wire(user="")])
    assert raised.value.parameter == f"events[2].{field}"


@pytest.mark.parametrize("count", [0, EVENTS_MAX + 1])
def test_call_with_too_few_or_too_many_events_is_refused(count: int) -> None:
    with pytest.raises(InvalidEvent, match=f"events must be 1 to 1000, not {count}"):
        events_from_wire([wire()] * count)


def test_largest_call_is_read() -> None:
    assert len(events_from_wire([wire()] * EVENTS_MAX)) == EVENTS_MAX
