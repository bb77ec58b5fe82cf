"""Addresses as ``host:port``, the host a name, an IPv4 or an IPv6 in brackets. Pure."""

import re
from typing import Final, NamedTuple

from tally.errors import ConfigError

_FORM: Final = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
PORT_MAX: Final = 65_535
PEER_PORT_OFFSET: Final = 100  # From the public service of a shard to its internal one, unless somebody says otherwise.


class Address(NamedTuple):
    """Where a server listens or is reached; an IPv6 host is kept without its brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, setting: str, text: str, *, port_min: int = 1) -> "Address":
        """Read ``host:port``; port 0, where ``port_min`` allows it, stands for any free one.

        Raises:
            ConfigError: It is not of that form; the error names ``setting``.
        """
        found = _FORM.fullmatch(text)
        if not found or not port_min <= int(found[2]) <= PORT_MAX:
            raise ConfigError(setting, text, "host:port, such as 127.0.0.1:8080, 0.0.0.0:80 or [::1]:8080")
        return cls(found[1].strip("[]"), int(found[2]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def of_peers(self) -> "Address | None":
        """Return where the internal service of a shard with this public address is by default; None: no such port."""
        port = self.port + PEER_PORT_OFFSET
        return self._replace(port=port) if port <= PORT_MAX else None

    @property
    def is_everywhere(self) -> bool:
        """It means every address of this machine: fine to listen on, useless to others."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 - it is compared, not bound.
