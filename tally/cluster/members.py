"""The shards of a cluster: who belongs to it, and who is there just now. Two things: a lost lease moves nothing.

Pure: JSON text in, values out, and back.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from tally.address import Address
from tally.cluster.config import parse_object
from tally.errors import BadClusterData, ConfigError


class Wanted(StrEnum):
    """What the operator wants of a member."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Member:
    """A shard that belongs to the cluster; it outlives the process.

    Attributes:
        address: ``host:port`` where its public service is reached.
        peer_address: ``host:port`` where its internal service is reached, by the processes of the cluster.
        directory: 32 hex digits drawn when its data directory was made; an emptied directory has others.
        wanted: What the operator wants of it.
    """

    address: str
    peer_address: str
    directory: str
    wanted: Wanted = Wanted.ACTIVE

    def to_json(self) -> str:
        """Return the text that stands in etcd."""
        return json.dumps(
            {
                "address": self.address,
                "peer_address": self.peer_address,
                "directory": self.directory,
                "state": self.wanted.value,
            }
        )

    @classmethod
    def from_json(cls, text: bytes | str, key: str) -> Self:
        """Read what ``to_json`` wrote, or a version that knew no ``peer_address``: then it is where it is by default.

        Raises:
            BadClusterData: It is not that; the error names ``key``.
        """
        value = parse_object(text, key)
        try:
            address = str(value["address"])
            peer_address = str(value["peer_address"]) if "peer_address" in value else _peers_of(address)
            return cls(address, peer_address, str(value["directory"]), Wanted(value["state"]))
        except (KeyError, ValueError, ConfigError) as exc:
            raise BadClusterData(key, f"{type(exc).__name__}: {exc}") from exc


def _peers_of(address: str) -> str:
    """Return where the internal service of a shard is by default.

    Raises:
        ConfigError: There can be none.
    """
    found = Address.parse("address", address).of_peers()
    if found is None:
        raise ConfigError("peer_address", None, f"there is no port so far above {address}")
    return str(found)


@dataclass(frozen=True, slots=True)
class ControllerSeat:
    """Which shard is the controller at present, and where its internal service is reached."""

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
