"""What primaries ask the controller for (rule 11): who waits for an answer, and what one transaction makes of them.

| request | answer |
|---|---|
| of a process that has not, or not any more, the place of the row's primary | refused |
| to remove or to promote, while too few shards live | refused |
| doubted | by a look at the member: ``planning/doubt.py`` |
| any other | executed, if the row may be changed so |

The process matters because a request may come late: a removal that was right when it was asked for takes out who has
everything, if the primary died meanwhile and comes back with a disk that lost something. Who has no alive key just now
may be dead in the same way, so it removes nobody; it asks again when it is registered.

Invariants:
  * each call is answered as a whole and once, or fails;
  * no more than ``requests_max`` requests wait, for a look or for a transaction; who comes then is refused before
    anything was taken in.

Nothing in here talks to etcd: ``controller.py`` takes the calls, writes, and settles them.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.planning.doubt import judged
from tally.cluster.planning.health import ShardHealth
from tally.cluster.planning.standstill import Standstill, by_etcd
from tally.cluster.rows import Change, Refusal, Request, execute_all
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.errors import Overloaded, TallyError

GATHER_S: Final = 0.005
REQUESTS_MAX: Final = 65_536
REQUESTS_AT_ONCE: Final = 512

Answers = Sequence[Refusal | None]

Looks = Mapping[str, ShardHealth | None]
"""Shard -> what it answered to a call that began after the requests came; None for nothing."""

_BARRED: Final = frozenset({Change.REMOVE, Change.PROMOTE})


class Believed(NamedTuple):
    """What the last plan found, and requests are held against.

    Attributes:
        barred: Why nobody is taken out or promoted now; "" if nothing speaks against it.
        standstill: Why nothing at all is changed; None if nothing speaks against it.
        unreachable: Who has an alive key, but did not answer for long.
    """

    barred: str = ""
    standstill: Standstill | None = None
    unreachable: Collection[str] = ()


class Outcome(NamedTuple):
    """What comes of some requests.

    Attributes:
        map: To be written before anybody is answered; None if all were refused.
        answers: In the order of the requests, None for executed.
        promoted: How many members are promoted, of those whose removal was asked for.
    """

    map: SlotMap | None
    answers: tuple[Refusal | None, ...]
    promoted: int = 0


def outcome_of(
    state: ClusterState, requests: Sequence[Request], looks: Sequence[ShardHealth | None], believed: Believed
) -> Outcome:
    """Return what comes of these requests.

    Args:
        state: The newest, read after the looks.
        requests: In the order in which they came; of several for one slot only the first can be executed.
        looks: By request, what the shard that it is about answered; of no meaning where the request is not doubted.
        believed: By the last plan; what etcd says itself counts too.
    """
    if (reason := by_etcd(state) or believed.standstill) is not None:
        return Outcome(None, tuple(Refusal(request, None, reason.value) for request in requests))
    if state.map is None:
        return Outcome(None, tuple(Refusal(request, None, "there is no map yet") for request in requests))
    active = sum(member.wanted is Wanted.ACTIVE for member in state.members.values())
    to_execute = [_checked(state, *one, believed) for one in zip(requests, looks, strict=True)]
    wanted, results = execute_all(
        state.map,
        [one for one in to_execute if isinstance(one, Request)],
        min_copies=state.config.min_copies_among(active),
    )
    left = iter(results)
    answers: list[Refusal | None] = []
    promoted = 0
    for request, checked in zip(requests, to_execute, strict=True):
        if isinstance(checked, Refusal):
            answers.append(checked)
            continue
        answer = next(left)
        if answer is None and checked.change is not request.change:
            promoted += 1
            answer = Refusal(request, wanted.rows[request.slot], f"{request.shard} is ahead: it was promoted instead")
        answers.append(answer)
    return Outcome(None if wanted == state.map else wanted, tuple(answers), promoted)


def _checked(state: ClusterState, request: Request, look: ShardHealth | None, believed: Believed) -> Request | Refusal:
    """Return what to execute for one request, if its row is still of that epoch."""
    assert state.map is not None
    if not 0 <= request.slot < len(state.map.rows):
        return request  # It is refused when it is executed, like one of another epoch.
    row = state.map.rows[request.slot]
    if request.epoch != row.epoch:
        return request
    if believed.barred and request.change in _BARRED:
        return Refusal(request, row, believed.barred)
    if reason := _stranger(state, row, request):
        return Refusal(request, row, reason)
    if not request.doubted:
        return request
    checked = judged(request, look, alive=state.alive, unreachable=believed.unreachable)
    return Refusal(request, row, checked) if isinstance(checked, str) else checked


def _stranger(state: ClusterState, row: SlotRow, request: Request) -> str:
    """Return why it is not the primary as it is now who asks; "" if it is."""
    process = state.alive.get(row.primary)
    if process is None:
        return f"{row.primary} is not registered" if request.change is Change.REMOVE else ""
    return "" if process == request.process else f"another process is {row.primary} now"


class RowCall:
    """Some requests that one caller asked for at once, and that wait for their answers."""

    def __init__(self, requests: Sequence[Request], looks: Looks, came_at: float) -> None:
        """Take them in, with a look at each shard that a doubted one is about; ``came_at`` is the event loop's time."""
        self.requests = tuple(requests)
        self.looks = tuple(looks.get(request.shard) for request in requests)
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

    @contextmanager
    def room_for(self, requests: int) -> Iterator[None]:
        """Keep room for requests that can't be added yet; raise ``Overloaded`` if too many would wait then."""
        self._check_room(requests)
        self._count += requests
        try:
            yield
        finally:
            self._count -= requests

    def _check_room(self, requests: int) -> None:
        if self._count + requests > self._requests_max:
            raise Overloaded("the controller's queue", self._requests_max)

    def add(self, requests: Sequence[Request], looks: Looks, now: float) -> RowCall:
        """Take a call in; raise ``Overloaded`` if too many requests would wait then."""
        self._check_room(len(requests))
        call = RowCall(requests, looks, now)
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
