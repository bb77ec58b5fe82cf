"""What a system tells of an hour, and whether that fits what was acknowledged."""

import http.client
from types import TracebackType
from typing import Final, NamedTuple, Self

from bench.errors import LoadFailed
from tally.address import Address

HOUR_MS: Final = 3_600_000
_ANSWER_S: Final = 15.0
_NAMES: Final = ["unique_users", "clicks", "impressions"]


class Counts(NamedTuple):
    """The numbers of one hour, or of several together."""

    unique_users: int
    clicks: int
    impressions: int

    @property
    def events(self) -> int:
        """Clicks and impressions."""
        return self.clicks + self.impressions


def parse_counts(body: str) -> Counts:
    """Read the answer to a GET: three lines. Pure.

    Raises:
        LoadFailed: It is something else.
    """
    rows = [line.partition(",") for line in body.splitlines()]
    if [name for name, _, _ in rows] != _NAMES or not all(number.isdecimal() for _, _, number in rows):
        raise LoadFailed(f"not the numbers of an hour: {body[:200]!r}")
    return Counts(*(int(number) for _, _, number in rows))


def together(all_counts: list[Counts]) -> Counts:
    """Add up the numbers of several hours. Pure."""
    return Counts(
        unique_users=sum(one.unique_users for one in all_counts),
        clicks=sum(one.clicks for one in all_counts),
        impressions=sum(one.impressions for one in all_counts),
    )


def complaint(before: Counts, after: Counts, *, acknowledged: int, sent: int, users_are_new: bool) -> str | None:
    """Say what is wrong with the numbers after some events; None if they are exact. Pure.

    Args:
        before: Before the first was sent.
        after: After the last was answered.
        acknowledged: How many of them were: these must be counted.
        sent: How many left at all. Those that were not answered may be counted or not.
        users_are_new: Each event had a user of its own.
    """
    counted = after.events - before.events
    if not acknowledged <= counted <= sent:
        return f"{counted} events counted, {acknowledged} acknowledged, {sent} sent"
    users = after.unique_users - before.unique_users
    if users_are_new and users != counted:
        return f"{users} new users in {counted} events, each of a user of its own"
    return None


class Reader:
    """A connection that asks for hours, one after another."""

    def __init__(self, address: Address) -> None:
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=_ANSWER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def read(self, hour: int) -> Counts:
        """Ask for one hour.

        Raises:
            LoadFailed: There is no answer, or not the right one.
        """
        try:
            self._connection.request("GET", f"/analytics?timestamp={hour * HOUR_MS}")
            answer = self._connection.getresponse()
            body = answer.read().decode()
        except (OSError, http.client.HTTPException) as exc:
            raise LoadFailed(f"no answer to a GET: {exc!r}") from exc
        if answer.status != 200:
            raise LoadFailed(f"a GET is answered {answer.status}: {body[:200]!r}")
        return parse_counts(body)
