"""The way of what primaries ask to the controller: in this process, directly, or through a shard that can reach it.

Through another, because a network may let A reach B, and B reach C, but not A reach C: if C is the controller, and has
backups of A's slots, then A could not get rid of them, and served nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from protos.tally.internal.v1 import node_pb2
from tally.cluster.controller.controller import Controller
from tally.cluster.controller.node_calls import NodeCalls, execute_wishes
from tally.cluster.controller.node_words import wish_of
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Request
from tally.errors import NotController, Unreachable

log = structlog.get_logger()

OTHERS: Final = 2  # Through how many it is tried at once, one after the other.


class Ways:
    """Through whom to ask, and in which order. Pure."""

    def __init__(self, shard: str) -> None:
        """Begin with the direct way; ``shard`` is who asks."""
        self._shard = shard
        self._controller = ""
        self._through: str | None = None  # Who passed it on last, while the direct way failed.
        self._turn = 0

    def order(self, controller: str, alive: Iterable[str]) -> list[str]:
        """Return whom to ask, the likeliest first: the controller itself, and some who may reach it.

        Args:
            controller: Who decides at present.
            alive: Whoever may pass something on.
        """
        if controller != self._controller:
            self._controller, self._through = controller, None
        others = sorted(set(alive) - {controller, self._shard})
        turn = self._turn % len(others) if others else 0
        tried = (others[turn:] + others[:turn])[:OTHERS]
        if self._through not in others:
            return [controller, *tried]
        return [self._through, controller, *(other for other in tried if other != self._through)]

    def worked(self, shard: str) -> None:
        """Note that an answer came from there."""
        self._through = None if shard == self._controller else shard

    def failed(self) -> None:
        """Note that nobody answered: next time others are asked."""
        self._through = None
        self._turn += OTHERS


class ToController:
    """Asks the controller, for this shard and for those who can't reach it. Belongs to one event loop."""

    def __init__(self, shard: str, reader: ClusterReader, controller: Controller, calls: NodeCalls) -> None:
        """Prepare.

        Args:
            shard: This shard's id.
            reader: Knows who the controller is, and where the shards are.
            controller: This shard's part in that.
            calls: To other shards.
        """
        self._shard = shard
        self._reader = reader
        self._controller = controller
        self._calls = calls
        self._ways = Ways(shard)

    async def ask(self, requests: Sequence[Request]) -> None:
        """Ask for changes of rows; what came of them stands in the map.

        Raises:
            TallyError: There is no controller, or it does not answer.
        """
        wishes = [wish_of(request) for request in requests]
        if self._controller.elected:
            refusals = await execute_wishes(self._controller.request, wishes)
        else:
            refusals = await self._by_some_way(wishes)
        for request, refusal in zip(requests, refusals, strict=True):
            if refusal:
                log.debug("change_refused", slot=request.slot, change=request.change.name, reason=refusal)

    async def take(self, asked: node_pb2.ChangeRowsRequest) -> list[str]:
        """Execute what another shard asks for, or pass it on; return "" or why not, for each.

        Raises:
            NotController: This shard is not the controller, and was not to pass it on.
            TallyError: The controller does not answer, or could not do it.
        """
        if asked.pass_on and not self._controller.elected:
            return await self._from(self._seat(), asked.changes)
        return await execute_wishes(self._controller.request, asked.changes)

    async def _by_some_way(self, wishes: Sequence[node_pb2.RowChangeWish]) -> list[str]:
        seat = self._seat()
        failure: Unreachable | None = None
        for shard in self._ways.order(seat, self._reader.state.alive):
            try:
                refusals = await self._from(shard, wishes, pass_on=shard != seat)
            except Unreachable as exc:
                failure = failure or exc  # Of the likeliest way.
            else:
                self._ways.worked(shard)
                return refusals
        self._ways.failed()
        assert failure is not None
        raise failure

    async def _from(self, shard: str, wishes: Sequence[node_pb2.RowChangeWish], *, pass_on: bool = False) -> list[str]:
        state = self._reader.state
        address = state.address_of(shard)
        if address is None and state.controller is not None and state.controller.shard == shard:
            address = state.controller.address
        if address is None:
            raise Unreachable(f"nobody knows where shard {shard} is")
        return await self._calls.change_rows(address, shard, wishes, pass_on=pass_on)

    def _seat(self) -> str:
        """Return who the controller is.

        Raises:
            NotController: Nobody.
        """
        seat = self._reader.state.controller
        if seat is None or seat.shard == self._shard:
            raise NotController(self._shard)
        return seat.shard
