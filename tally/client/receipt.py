"""Who waits for events: a future that is done once all of them have their definite answers, or one has none in time."""

import asyncio

from tally.errors import InDoubt, Refusing, TallyError
from tally.event import invalid


def reason_of(error: TallyError) -> str:
    """Return what of an error is true of several events, of which others may be counted."""
    match error:
        case InDoubt():
            return error.reason
        case Refusing():
            return str(error)
        case _:
            return ""


class Receipt:
    """One caller's receipt for one or more events."""

    __slots__ = ("_alone", "_counted", "_error", "_left", "future")

    def __init__(self, events: int, loop: asyncio.AbstractEventLoop) -> None:
        assert events >= 1
        self._alone = events == 1
        self._left = events
        self._counted = False
        self._error: TallyError | None = None
        self.future: asyncio.Future[None] = loop.create_future()

    def settle(self, refusal: int) -> None:
        """Take the definite answer for one event."""
        if refusal:
            self._error = invalid(refusal)
        else:
            self._counted = True
        self._left -= 1
        if self._left == 0 and not self.future.done():
            if self._error is None:
                self.future.set_result(None)
            else:
                # "Invalid" says that nothing was counted.
                self.future.set_exception(InDoubt() if self._counted else self._error)

    def fail(self, error: TallyError) -> None:
        """Tell the caller at once that some event has no definite answer, or was dropped.

        Of several events others may be counted: an error that says "not counted" would not be true of all.
        """
        if not self.future.done():
            self.future.set_exception(error if self._alone else InDoubt(reason_of(error)))
