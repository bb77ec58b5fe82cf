"""What a shard's data directory says of itself, in a file beside the database. Pure: JSON text in, values out, back.

Here and not in ``shard``, because ``tally recover`` learns from it what a cluster was like that etcd has lost.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tally.cluster.config import HASH
from tally.errors import ConfigError, DirectoryRefused
from tally.hashing import Shape

FORMAT: Final = 3
"""Of all that the directory holds: see ``shard/counting/keys.py``."""
FORMATS_READ: Final = (2, FORMAT)
IDENTITY_FILE: Final = "tally-shard.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a data directory says of itself.

    Attributes:
        cluster: The uuid of the cluster.
        shard: The shard's id, which never changes.
        directory: 32 hex digits, drawn when the directory was made.
        shape: What was fixed for the cluster then.
        founded: The copies that founded the cluster were begun here. They are never begun again: a database without
            them has lost its data, and must not pass for an empty one.
        format: Of what the directory holds. One of an older format is marked with this one before its database is
            opened: from then on the older version that wrote it must not open it.
    """

    cluster: str
    shard: str
    directory: str
    shape: Shape
    founded: bool = False
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text of the identity file."""
        return json.dumps(
            {
                "format": self.format,
                "hash": HASH,
                "cluster": self.cluster,
                "shard": self.shard,
                "directory": self.directory,
                "founded": self.founded,
                "slots": self.shape.slots,
                "spread": [list(pair) for pair in self.shape.spreads],
                "hours_together": self.shape.hours_together,
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: bytes | str, path: Path) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            DirectoryRefused: It is not that, or of another format; the error names ``path``.
        """
        try:
            value: dict[str, Any] = json.loads(text)
            if value["format"] not in FORMATS_READ or value["hash"] != HASH:
                raise DirectoryRefused(
                    str(path),
                    f"it has format {value['format']!r} and hash {value['hash']!r}; "
                    f"this version knows the formats {FORMATS_READ} and hash {HASH!r}",
                )
            shape = Shape(
                slots=int(value["slots"]),
                spreads=tuple((int(start), int(spread)) for start, spread in value["spread"]),
                hours_together=int(value["hours_together"]),
            )
            names = str(value["cluster"]), str(value["shard"]), str(value["directory"])
            return cls(*names, shape, bool(value.get("founded", False)), value["format"])
        except (KeyError, TypeError, ValueError, ConfigError) as exc:
            raise DirectoryRefused(
                str(path),
                f"{IDENTITY_FILE} in it can't be read ({exc}). While all slots serve without it (tally status), "
                "others have its copies: put the directory aside and start with an empty one. If some do not, "
                "write the file anew: it says what those of other shards say, with this shard's id, and the directory "
                "that stands in etcd below members",
            ) from exc
