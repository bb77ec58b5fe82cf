"""What primaries ask the controller for (rule 11): who waits for an answer, and what one transaction makes of them.

Invariants:
  * each call is answered as a whole and once, or fails;
  * no more than ``requests_max`` requests wait; who comes then is refused before anything was taken in.

Nothing in here talks to etcd: ``controller.py`` takes the calls, writes, and settles them.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.planning.standstill import Standstill, by_etcd
from tally.cluster.rows import Change, Refusal, Request, execute_all
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.errors import Overloaded, TallyError

GATHER_S: Final = 0.005
REQUESTS_MAX: Final = 65_536
REQUESTS_AT_ONCE: Final = 512

Answers = Sequence[Refusal | None]

_BARRED: Final = frozenset({Change.REMOVE, Change.PROMOTE})


class Outcome(NamedTuple):
    """What comes of some requests.

    Attributes:
        map: To be written before anybody is answered; None if all were refused.
        answers: In the order of the requests, None for executed.
    """

    map: SlotMap | None
    answers: tuple[Refusal | None, ...]


def outcome_of(
    state: ClusterState, requests: Sequence[Request], *, barred: str, standstill: Standstill | None = None
) -> Outcome:
    """Return what comes of these requests.

    Args:
        state: The newest.
        requests: In the order in which they came; of several for one slot only the first can be executed.
        barred: Why nobody is taken out or promoted now; "" if nothing speaks against it.
        standstill: Why nothing at all is changed, by the last plan; what etcd says itself counts too.
    """
    if (reason := by_etcd(state) or standstill) is not None:
        return Outcome(None, tuple(Refusal(request, None, reason.value) for request in requests))
    if state.map is None:
        return Outcome(None, tuple(Refusal(request, None, "there is no map yet") for request in requests))
    active = sum(member.wanted is Wanted.ACTIVE for member in state.members.values())
    refused = _barred(state.map, requests, barred) if barred else {}
    rest = [number for number in range(len(requests)) if number not in refused]
    wanted, answers = execute_all(
        state.map, [requests[number] for number in rest], min_copies=state.config.min_copies_among(active)
    )
    by_number: dict[int, Refusal | None] = {**refused, **dict(zip(rest, answers, strict=True))}
    return Outcome(None if wanted == state.map else wanted, tuple(by_number[number] for number in range(len(requests))))


def _barred(slot_map: SlotMap, requests: Sequence[Request], reason: str) -> Mapping[int, Refusal]:
    """Return the refusals of what takes somebody out or promotes somebody, by the number of the request."""
    return {
        number: Refusal(request, slot_map.rows[request.slot], reason)
        for number, request in enumerate(requests)
        if request.change in _BARRED and 0 <= request.slot < len(slot_map.rows)
    }


class RowCall:
    """Some requests that one caller asked for at once, and that wait for their answers."""

    def __init__(self, requests: Sequence[Request], came_at: float) -> None:
        """Take them in; ``came_at`` is the event loop's time."""
        self.requests = tuple(requests)
        self.came_at = came_at
        self._answers: asyncio.Future[list[Refusal | None]] = asyncio.get_running_loop().create_future()

    async def answered(self) -> list[Refusal | None]:
        """Wait for the answers; raise what ``fail`` was given."""
        return await self._answers

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more, or it was answered."""
        return self._answers.done()

    def settle(self, answers: Answers) -> None:
        """Answer, unless the caller has gone."""
        assert len(answers) == len(self.requests)
        if not self._answers.done():
            self._answers.set_result(list(answers))

    def fail(self, error: TallyError) -> None:
        """Answer with an error, unless it was answered before or the caller has gone."""
        if not self._answers.done():
            self._answers.set_exception(error)


class WaitingCalls:
    """The calls that no transaction has taken up yet, in the order in which they came."""

    def __init__(self, *, requests_max: int = REQUESTS_MAX) -> None:
        """Begin without any."""
        assert requests_max >= 1
        self._requests_max = requests_max
        self._calls: deque[RowCall] = deque()
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, requests: Sequence[Request], now: float) -> RowCall:
        """Take a call in; raise ``Overloaded`` if too many requests would wait then."""
        if self._count + len(requests) > self._requests_max:
            raise Overloaded("the controller's queue", self._requests_max)
        call = RowCall(requests, now)
        self._calls.append(call)
        self._count += len(requests)
        return call

    def gather_s(self, now: float) -> float:
        """Return how long to wait for more before a transaction is begun."""
        if not self._calls or self._count >= REQUESTS_AT_ONCE:
            return 0.0
        return max(0.0, self._calls[0].came_at + GATHER_S - now)

    def take(self, requests: int = REQUESTS_AT_ONCE) -> list[RowCall]:
        """Return the first calls: as many as make ``requests`` together, one at least; not those given up."""
        taken: list[RowCall] = []
        room = requests
        while self._calls and (not taken or len(self._calls[0].requests) <= room):
            call = self._calls.popleft()
            self._count -= len(call.requests)
            if not call.given_up:
                taken.append(call)
                room -= len(call.requests)
        return taken

    def take_all(self) -> list[RowCall]:
        """Return all calls that somebody waits for."""
        return self.take(self._requests_max)
