"""What the processes of a cluster must agree on: written once by ``tally create``, read by all.

Pure: JSON text in, values out, and back.
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from tally.errors import BadClusterData, ConfigError
from tally.hashing import Shape

FORMAT: Final = 1
HASH: Final = "xxh3_64"
FIRST_SHARDS_MAX: Final = 1024
COPIES_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """The settings of a cluster.

    Attributes:
        uuid: 32 hex digits, drawn by ``tally create``; a data directory remembers it.
        shape: Fixed for the life of the cluster.
        copies: How many shards keep each slot, if there are so many. An operator may change it.
        min_copies: Below how many in-sync copies a slot takes no writes. An operator may change it.
        first_shards: How many shards must be there before the first map is made.
        recovering: ``tally recover`` is at work, or broke off: nobody else may make or change the map.
    """

    uuid: str
    shape: Shape
    copies: int = 3
    min_copies: int = 2
    first_shards: int = 3
    recovering: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.copies <= COPIES_MAX:
            raise ConfigError("copies", self.copies, f"1..{COPIES_MAX}")
        if not 1 <= self.min_copies <= self.copies:
            raise ConfigError("min_copies", self.min_copies, f"1..{self.copies} (the number of copies)")
        if not 1 <= self.first_shards <= FIRST_SHARDS_MAX:
            raise ConfigError("shards", self.first_shards, f"1..{FIRST_SHARDS_MAX}")

    def with_copies(self, copies: int, min_copies: int | None = None) -> Self:
        """Return this config with other numbers of copies.

        Args:
            copies: The new number.
            min_copies: The new one; None keeps the present one, or lowers it to ``copies``.

        Raises:
            ConfigError: One of them is out of its range.
        """
        floor = min(self.min_copies, max(1, copies)) if min_copies is None else min_copies
        return replace(self, copies=copies, min_copies=floor)

    def copies_among(self, active: int) -> int:
        """Return how many copies each slot can have while ``active`` members are there to stay."""
        return min(self.copies, active)

    def min_copies_among(self, active: int) -> int:
        """Return below how many copies a slot takes no writes: fewer than members, so that of two one may be away."""
        return min(self.min_copies, max(1, active - 1))

    def needs_all_among(self, active: int) -> bool:
        """Whether a slot with several copies takes no writes while one of them is away."""
        return self.min_copies_among(active) == self.copies_among(active) > 1

    def to_json(self) -> str:
        """Return the text that stands in etcd."""
        value = {
            "format": FORMAT,
            "hash": HASH,
            "uuid": self.uuid,
            "slots": self.shape.slots,
            "spread": [list(pair) for pair in self.shape.spreads],
            "hours_together": self.shape.hours_together,
            "copies": self.copies,
            "min_copies": self.min_copies,
            "first_shards": self.first_shards,
        }
        return json.dumps(value | ({"recovering": True} if self.recovering else {}))

    @classmethod
    def from_json(cls, text: bytes | str, key: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            BadClusterData: It is not that, or of another format or hash; the error names ``key``.
        """
        value = parse_object(text, key)
        if value.get("format") != FORMAT or value.get("hash") != HASH:
            found = f"format {value.get('format')!r}, hash {value.get('hash')!r}"
            raise BadClusterData(key, f"{found}; this version knows format {FORMAT}, hash {HASH!r}")
        try:
            return cls(
                uuid=str(value["uuid"]),
                shape=Shape(
                    slots=int(value["slots"]),
                    spreads=tuple((int(start), int(spread)) for start, spread in value["spread"]),
                    hours_together=int(value["hours_together"]),
                ),
                copies=int(value["copies"]),
                min_copies=int(value["min_copies"]),
                first_shards=int(value["first_shards"]),
                recovering=bool(value.get("recovering", False)),
            )
        except (KeyError, TypeError, ValueError, ConfigError) as exc:
            raise BadClusterData(key, f"{type(exc).__name__}: {exc}") from exc

    def differences(self, other: "ClusterConfig") -> list[str]:
        """Name what is fixed and differs; empty when they fit."""
        return differences(self.shape, other.shape)


def differences(have: Shape, want: Shape) -> list[str]:
    """Name what differs: ``["slots is 256, not 64", ...]``; empty when they fit."""
    pairs = [
        ("slots", have.slots, want.slots),
        ("spread", have.spreads, want.spreads),
        ("hours_together", have.hours_together, want.hours_together),
    ]
    return [f"{name} is {_plain(one)}, not {_plain(other)}" for name, one, other in pairs if one != other]


def parse_object(text: bytes | str, key: str) -> dict[str, Any]:
    """Parse a JSON object that stands at ``key`` in etcd.

    Raises:
        BadClusterData: It is no JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadClusterData(key, f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BadClusterData(key, "not a JSON object")
    return value


def _plain(value: object) -> object:
    """Show a spread that never changes as the one number that it is."""
    match value:
        case ((0, spread),):
            return spread
        case _:
            return value
