"""Events for tests, and where they count."""

from typing import Final

from tally.event import Event, Kind, key_hash
from tally.hashing import Shape, bucket_of, slot_of

HOUR: Final = 478_000
"""An hour of July 2024."""


def click(user: str, hour: int = HOUR) -> Event:
    """Return a click."""
    return Event(hour, user.encode(), Kind.CLICK)


def impression(user: str, hour: int = HOUR) -> Event:
    """Return an impression."""
    return Event(hour, user.encode(), Kind.IMPRESSION)


def keyed(event: Event, key: str) -> Event:
    """Return the same event, sent with an idempotency key."""
    return event._replace(key=key_hash(key, event.hour, event.user, event.kind))


def slot_of_event(event: Event, shape: Shape) -> int:
    """Return the slot that owns an event."""
    return slot_of(event.hour, bucket_of(event.hour, event.user, shape), shape)


def users_of_slot(slot: int, count: int, shape: Shape, hour: int = HOUR) -> list[str]:
    """Return the first so many of the users u0, u1 ... whose events of ``hour`` a slot owns."""
    owned = (name for name in map("u{}".format, range(100_000)) if slot_of_event(click(name, hour), shape) == slot)
    return [next(owned) for _ in range(count)]
