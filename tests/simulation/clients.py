"""Writers and readers. Half of the hours are written with keys, and resent until definite; the other half only once."""

from typing import TYPE_CHECKING, Final

from tally.client.counts import HourCounts
from tests.simulation.ledger import Posted
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

WRITE_EVERY_S: Final = 0.09
READ_EVERY_S: Final = 0.2
LOST_ANSWERS: Final = 0.02  # The share of acknowledgements that do not reach a client.


class Clients:
    """All clients of all gateways."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._random = cluster.world.random
        self._until = 0.0
        self._open = 0  # Events with keys without a definite answer.

    @property
    def done(self) -> bool:
        """Every event with a key is definite."""
        return self._open == 0

    def begin(self, until: float) -> None:
        """Write and read until some time."""
        self._until = until
        self._world.after(0.3, self._write)
        self._world.after(0.5, self._read_any)

    def _write(self) -> None:
        if self._world.now > self._until:
            return
        chance = self._world.chance
        self._world.after(2 * WRITE_EVERY_S * chance(), self._write)
        cluster = self._cluster
        gateway = self._random.choice(cluster.gateway_names)
        keyed = chance() < 0.5
        hours = cluster.keyed_hours if keyed else cluster.other_hours
        # Each hour has its busy and its quiet seconds.
        hour = hours[(int(self._world.now) + (chance() < 0.15)) % len(hours)]
        for _ in range(1 + int(chance() * 5)):
            user, slots = cluster.users[int(chance() * len(cluster.users))]
            event = Posted(len(cluster.ledger.events), hour, 1 + (chance() < 0.5), user, slots[hour], keyed=keyed)
            cluster.ledger.sent(event)
            self._open += keyed
            self._post(event, gateway)

    def _post(self, event: Posted, name: str) -> None:
        gateway = self._cluster.gateways[name]
        if gateway is None:
            self._world.after(0.05, self.unknown, event)
        else:
            gateway.post(event)

    def acknowledged(self, event: Posted) -> None:
        """Take an acknowledgement, if it arrives."""
        if event.acknowledged:
            return
        if self._world.chance() < LOST_ANSWERS and self._world.now < self._until:
            self.unknown(event)
            return
        self._cluster.ledger.acknowledged(event)
        self._open -= event.keyed

    def unknown(self, event: Posted) -> None:
        """Take anything that is not definite: only an event with a key may be sent again."""
        if event.keyed and not event.acknowledged:
            delay = 0.02 + 0.3 * self._world.chance()
            self._world.after(delay, self._post_again, event)

    def _post_again(self, event: Posted) -> None:
        if not event.acknowledged:
            self._world.totals["resent events"] += 1
            self._post(event, self._random.choice(self._cluster.gateway_names))

    def _read_any(self) -> None:
        if self._world.now > self._until:
            return
        self._world.after(2 * READ_EVERY_S * self._world.chance(), self._read_any)
        gateway = self._cluster.gateways[self._random.choice(self._cluster.gateway_names)]
        hours = self._cluster.keyed_hours if self._world.chance() < 0.5 else self._cluster.other_hours
        hour = self._random.choice(hours)
        if gateway is not None:
            ledger = self._cluster.ledger
            floor = ledger.floor(hour)

            def reader(counts: HourCounts | None) -> None:
                if counts is not None:
                    ledger.read(hour, floor, counts)

            gateway.read(hour, reader)

    def read_exactly(self, hour: int, expected: HourCounts) -> None:
        """Read an hour through each gateway when nothing is written any more."""
        for gateway in self._cluster.gateways.values():
            assert gateway is not None

            def reader(counts: HourCounts | None) -> None:
                if counts != expected:
                    raise Broken(f"the last read of hour {hour} got {counts}; right is {expected}")
                self._world.totals["last reads"] += 1

            gateway.read(hour, reader)
