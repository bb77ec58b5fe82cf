"""What the HTTP door needs of whoever counts: the routed client in production, a dictionary in tests."""

import asyncio
from typing import Protocol

from tally.client.counts import HourCounts
from tally.cluster.planning.standing import Standing
from tally.errors import Overloaded
from tally.event import Event


class Backend(Protocol):
    """Counts events and tells an hour's numbers."""

    @property
    def events_set_aside(self) -> int:
        """How often an event was set aside because shards died of it."""

    def overload(self) -> Overloaded | None:
        """Return why no event at all can be taken in now; None if one may."""

    def record(self, event: Event) -> "asyncio.Future[None]":
        """Count ``event``; done when it is durable.

        Raises:
            InvalidEvent: Nobody may count it.
            Overloaded: Nothing was counted; may be raised before there is anything to await.
            Unavailable: Nothing was counted.
            InDoubt: It is counted once or not at all.
            SetAside: It was not sent; may be raised before there is anything to await.
        """

    def read_hour(self, hour: int) -> "asyncio.Future[HourCounts]":
        """Return the exact numbers of ``hour``.

        Raises:
            Overloaded: Too many reads wait; may be raised before there is anything to await.
            Unavailable: Some part of the hour can't be read now.
        """

    async def not_serving(self) -> list[str]:
        """Return why some slots have no serving primary, one reason an entry; empty when all have."""

    async def standing(self) -> Standing | None:
        """Return how the whole cluster stands, as asked within the last second; None if nothing is known of it."""

    def refusing(self) -> list[str]:
        """Return where something is refused although it is served, as the last ``not_serving`` found it."""
