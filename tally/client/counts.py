"""The numbers of an hour."""

from typing import NamedTuple


class HourCounts(NamedTuple):
    """What was counted in one hour, or in a part of it. All are exact; 0 where nothing was counted."""

    unique_users: int
    clicks: int
    impressions: int
