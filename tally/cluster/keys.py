"""The names of the keys in etcd. One cluster is one prefix, so several can share an etcd."""

import re
from dataclasses import dataclass

from tally.errors import ConfigError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def check_name(setting: str, name: str) -> str:
    """Return ``name`` if a cluster or a shard can have it.

    Raises:
        ConfigError: It has other characters, or is too long; the error names ``setting``.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(setting, name, "1 to 63 of a-z 0-9 _ . - and the first a letter or digit")
    return name


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one cluster. What stands in each: README, "etcd"."""

    cluster: str

    @property
    def prefix(self) -> str:
        """What every key of the cluster begins with."""
        return f"/tally/{self.cluster}/"

    @property
    def config(self) -> str:
        """What is fixed, and what operators may change: ``config.py``."""
        return f"{self.prefix}config"

    @property
    def secret(self) -> str:
        """What its processes prove themselves with to each other: ``secret.py``. Not to be shown."""
        return f"{self.prefix}secret"

    @property
    def map(self) -> str:
        """Who owns which slot: ``slot_map.py``."""
        return f"{self.prefix}map"

    @property
    def controller(self) -> str:
        """Which shard decides at present; under its lease."""
        return f"{self.prefix}controller"

    @property
    def members(self) -> str:
        """What the keys of all members begin with."""
        return f"{self.prefix}members/"

    @property
    def alive(self) -> str:
        """What the keys of all living shards begin with."""
        return f"{self.prefix}alive/"

    def member(self, shard: str) -> str:
        """Return the key of a shard that belongs to the cluster, running or not."""
        return f"{self.members}{shard}"

    def alive_of(self, shard: str) -> str:
        """Return the key of a shard's running process; under its lease."""
        return f"{self.alive}{shard}"
