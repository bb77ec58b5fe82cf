"""Where this process reaches single shards, if not at the address in etcd: ``--resolve``, for one way at a time."""

from typing import Final

from tally.address import Address
from tally.cluster.keys import check_name
from tally.errors import ConfigError

SETTING: Final = "--resolve (TALLY_RESOLVE)"
_FORM: Final = "id=host:port,... with each shard once, such as s1=127.0.0.1:9101"


def parse_resolve(text: str) -> dict[str, str]:
    """Read ``id=host:port,id=host:port``; the empty text names none.

    Returns:
        Shard -> the ``host:port`` at which this process reaches it.

    Raises:
        ConfigError: It is not of that form, or names a shard twice.
    """
    addresses: dict[str, str] = {}
    for part in text.split(",") if text else ():
        shard, equals, address = part.partition("=")
        if not equals or shard in addresses:
            raise ConfigError(SETTING, text, _FORM)
        addresses[check_name(SETTING, shard)] = str(Address.parse(SETTING, address))
    return addresses
