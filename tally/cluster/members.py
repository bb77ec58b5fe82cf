"""The shards of a cluster: who belongs to it, and who is there just now. Two things: a lost lease moves nothing.

Pure: JSON text in, values out, and back.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from tally.cluster.config import parse_object
from tally.errors import BadClusterData


class Wanted(StrEnum):
    """What the operator wants of a member."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Member:
    """A shard that belongs to the cluster; it outlives the process.

    Attributes:
        address: ``host:port`` where its gRPC server is reached.
        directory: 32 hex digits drawn when its data directory was made; an emptied directory has others.
        wanted: What the operator wants of it.
    """

    address: str
    directory: str
    wanted: Wanted = Wanted.ACTIVE

    def to_json(self) -> str:
        """Return the text that stands in etcd."""
        return json.dumps({"address": self.address, "directory": self.directory, "state": self.wanted.value})

    @classmethod
    def from_json(cls, text: bytes | str, key: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            BadClusterData: It is not that; the error names ``key``.
        """
        value = parse_object(text, key)
        try:
            return cls(str(value["address"]), str(value["directory"]), Wanted(value["state"]))
        except (KeyError, ValueError) as exc:
            raise BadClusterData(key, f"{type(exc).__name__}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class ControllerSeat:
    """Which shard is the controller at present."""

    shard: str
    address: str

    def to_json(self) -> str:
        """Return the text that stands in etcd."""
        return json.dumps({"shard": self.shard, "address": self.address})

    @classmethod
    def from_json(cls, text: bytes | str, key: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            BadClusterData: It is not that; the error names ``key``.
        """
        value = parse_object(text, key)
        try:
            return cls(str(value["shard"]), str(value["address"]))
        except KeyError as exc:
            raise BadClusterData(key, f"{exc} is missing") from exc
