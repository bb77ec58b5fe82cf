"""The secret that all processes of a cluster share, and no stranger: it goes with every call between them.

Invariants:
  * it is never shown: what prints or logs one, or something that has one in it, prints ``ClusterSecret(...)``;
  * it is compared in constant time.

Pure, but for ``draw``: text in, values out, and back.
"""

import hmac
import json
import re
import secrets
from typing import Final, Self

from tally.cluster.config import parse_object
from tally.errors import BadClusterData

SECRET_FILE: Final = "tally-secret.json"  # noqa: S105 - a name.
"""In a shard's data directory, so that an etcd that lost the secret can be given it again."""

_BYTES: Final = 32
_FORM: Final = re.compile(r"[0-9a-f]{64}")


class ClusterSecret:
    """256 random bits."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Take the text that ``reveal`` returned.

        Raises:
            ValueError: It is not that; the error does not show it.
        """
        if not _FORM.fullmatch(text):
            raise ValueError(f"it is not {2 * _BYTES} hex digits")
        self._text = text

    @classmethod
    def draw(cls) -> Self:
        """Return one that nobody knows."""
        return cls(secrets.token_hex(_BYTES))

    def reveal(self) -> str:
        """Return it as text. Only for what goes into a call, into etcd, or into a file that nobody else may read."""
        return self._text

    def is_same(self, offered: str | bytes) -> bool:
        """Whether this is what somebody offers; how long that takes tells nothing of the secret."""
        data = offered.encode("utf-8", "surrogatepass") if isinstance(offered, str) else offered
        return hmac.compare_digest(self._text.encode(), data)

    def to_json(self) -> str:
        """Return the text that stands in etcd, and in a shard's data directory."""
        return json.dumps({"secret": self._text})

    @classmethod
    def from_json(cls, text: bytes | str, key: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            BadClusterData: It is not that; the error names ``key``, and does not show what is there.
        """
        value = parse_object(text, key).get("secret")
        if value is None:
            raise BadClusterData(key, "there is no secret in it")
        try:
            return cls(value if isinstance(value, str) else "")
        except ValueError as exc:
            raise BadClusterData(key, str(exc)) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClusterSecret) and self.is_same(other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "ClusterSecret(...)"
