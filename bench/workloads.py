"""What is asked of a system. Pure data; ``load`` turns it into requests."""

from dataclasses import dataclass, replace
from typing import Final

KNOWN_USERS: Final = 1000
PAST_HOURS: Final = 240
PAST_STEP_H: Final = 97  # Neighbouring hours share their slots in Tally; these do not.


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A kind of traffic.

    Attributes:
        name: Short, for options and files.
        title: For the report.
        post_share: How many of the requests are POSTs, 0 to 1; the others are GETs.
        users: Events come from so many users; 0: each from a new one.
        past_share: How many of the requests are for an hour of the past, 0 to 1; the others are for the current one.
        past_hours: How many hours of the past there are.
        past_step_h: How many hours lie between two of them, and between the first and the current one.
        connections: How many clients ask, each for itself and one thing at a time.
    """

    name: str
    title: str
    post_share: float
    users: int = KNOWN_USERS
    past_share: float = 0.0
    past_hours: int = PAST_HOURS
    past_step_h: int = PAST_STEP_H
    connections: int = 64

    def hours(self, current: int) -> list[int]:
        """Return the hours in which its POSTs are counted when the current one is ``current``."""
        past = range(1, self.past_hours + 1) if self.past_share and self.post_share else ()
        return [current, *(current - number * self.past_step_h for number in past)]

    def at(self, connections: int) -> "Workload":
        """Return the same from so many clients."""
        return replace(self, connections=connections)

    def __str__(self) -> str:
        return f"{self.title}, {self.connections} connections"


POST: Final = Workload(name="post", title="POST current hour, new users", post_share=1.0, users=0)
POST_KNOWN: Final = Workload(name="post-known", title=f"POST current hour, {KNOWN_USERS} users", post_share=1.0)
GET_PAST: Final = Workload(
    name="get-past", title="GET any hour of 40,000", post_share=0.0, past_share=1.0, past_hours=40_000, past_step_h=1
)
GET: Final = Workload(name="get", title="GET current hour", post_share=0.0)
MIX: Final = Workload(
    name="mix", title="half POST, half GET, 5 % of each for the past", post_share=0.5, users=0, past_share=0.05
)
