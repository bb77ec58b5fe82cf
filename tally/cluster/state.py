"""All that etcd says of one cluster, as of one revision. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from tally.cluster.config import ClusterConfig, parse_object
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat, Member
from tally.cluster.secret import ClusterSecret
from tally.cluster.slot_map import SlotMap
from tally.errors import BadClusterData, ClusterMissing


class KeyValue(NamedTuple):
    """One key of etcd.

    Attributes:
        mod_revision: The revision of etcd that last wrote the key.
        create_revision: The revision that made it; another one after it was deleted and made again.
    """

    key: str
    value: bytes
    mod_revision: int
    create_revision: int


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What a router, a shard and the controller know of the cluster.

    Attributes:
        config: What all processes agree on.
        members: Shard -> what is known of it, running or not.
        alive: Shard -> 16 hex digits of its running process.
        controller: Who decides at present, if anybody.
        controller_revision: ``create_revision`` of that; 0 if nobody. Guards what the controller writes.
        map: Who owns what; None until the first shards are there.
        map_revision: ``mod_revision`` of the map in etcd; 0 without one. Guards what the controller writes.
        rolled_back: etcd has an older map than ``map``, or none any more: it was restored, or lost its data.
        unreadable: Key -> reason, of members and a secret that somebody wrote wrongly: it must not blind all others.
        secret: What its processes prove themselves with to each other. None where an older version made the cluster, or
            etcd lost it: then no call between them is possible.
        resolve: Shard -> where this very process reaches it, if not at its own ``peer_address``; told to nobody else.
    """

    config: ClusterConfig
    members: Mapping[str, Member] = field(default_factory=dict)
    alive: Mapping[str, str] = field(default_factory=dict)
    controller: ControllerSeat | None = None
    controller_revision: int = 0
    map: SlotMap | None = None
    map_revision: int = 0
    rolled_back: bool = False
    unreadable: Mapping[str, str] = field(default_factory=dict)
    secret: ClusterSecret | None = None
    resolve: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_etcd(cls, keys: Keys, found: Iterable[KeyValue]) -> Self:
        """Parse every key of the cluster.

        Raises:
            ClusterMissing: There is no config among them.
            BadClusterData: The config, the map or the controller can't be read.
        """
        by_key = {one.key: one for one in found}
        if keys.config not in by_key:
            raise ClusterMissing(keys.cluster)
        config = ClusterConfig.from_json(by_key[keys.config].value, keys.config)
        seat = by_key.get(keys.controller)
        row = by_key.get(keys.map)
        members, unreadable = _members(keys, by_key)
        secret = _secret(keys, by_key, unreadable)
        return cls(
            config=config,
            secret=secret,
            members=members,
            unreadable=unreadable,
            alive={
                key.removeprefix(keys.alive): one.value.decode("ascii", "replace")
                for key, one in sorted(by_key.items())
                if key.startswith(keys.alive)
            },
            controller=ControllerSeat.from_json(seat.value, keys.controller) if seat else None,
            controller_revision=seat.create_revision if seat else 0,
            map=SlotMap.from_json(row.value, keys.map, config.shape.slots) if row else None,
            map_revision=row.mod_revision if row else 0,
        )

    def address_of(self, shard: str) -> str | None:
        """Return where the internal service of a shard is reached, if it is a member."""
        member = self.members.get(shard)
        return self.resolve.get(shard, member.peer_address) if member else None

    def addresses(self) -> dict[str, str]:
        """Return where the internal service of each member is reached."""
        return {shard: self.resolve.get(shard, member.peer_address) for shard, member in self.members.items()}

    def to_file(self, cluster: str) -> str:
        """Return what a gateway keeps on disk of the cluster of that name, to start from when etcd is away.

        The secret is in it: nobody else may read the file.
        """
        return json.dumps(
            {
                "cluster": cluster,
                "secret": self.secret.reveal() if self.secret else None,
                "config": json.loads(self.config.to_json()),
                "members": {shard: json.loads(member.to_json()) for shard, member in self.members.items()},
                "map": json.loads(self.map.to_json()) if self.map else None,
                "map_revision": self.map_revision,
            }
        )

    @classmethod
    def from_file(cls, text: str, path: str, cluster: str) -> Self:
        """Read what ``to_file`` wrote of that cluster; who is alive is not part of it.

        Raises:
            BadClusterData: It is not that; the error names ``path``.
        """
        value = parse_object(text, path)
        if (of := value.get("cluster", cluster)) != cluster:
            raise BadClusterData(path, f"it is of cluster {of}, not {cluster}")
        try:
            config = ClusterConfig.from_json(json.dumps(value["config"]), path)
            rows = value["map"]
            secret = json.dumps({"secret": value.get("secret")})
            return cls(
                config=config,
                secret=ClusterSecret.from_json(secret, path),
                members={
                    shard: Member.from_json(json.dumps(member), path) for shard, member in value["members"].items()
                },
                map=None if rows is None else SlotMap.from_json(json.dumps(rows), path, config.shape.slots),
                map_revision=int(value["map_revision"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise BadClusterData(path, f"{type(exc).__name__}: {exc}") from exc


def _members(keys: Keys, by_key: Mapping[str, KeyValue]) -> tuple[dict[str, Member], dict[str, str]]:
    """Return the members, and why some can't be read."""
    members: dict[str, Member] = {}
    unreadable: dict[str, str] = {}
    for key, one in sorted(by_key.items()):
        if key.startswith(keys.members):
            try:
                members[key.removeprefix(keys.members)] = Member.from_json(one.value, key)
            except BadClusterData as exc:
                unreadable[key] = exc.reason
    return members, unreadable


def _secret(keys: Keys, by_key: Mapping[str, KeyValue], unreadable: dict[str, str]) -> ClusterSecret | None:
    """Return the secret, if there is one that can be read; else note why it can't be."""
    try:
        return ClusterSecret.from_json(by_key[keys.secret].value, keys.secret) if keys.secret in by_key else None
    except BadClusterData as exc:
        unreadable[keys.secret] = exc.reason
        return None
