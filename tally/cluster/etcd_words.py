"""The words of a talk with etcd: where it is, what a transaction compares and does, what comes back.

Pure. ``etcd.py`` turns them into messages, and is what callers import them from.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tally.cluster.state import KeyValue
from tally.errors import ConfigError

_ENDPOINT: Final = re.compile(r"(https?://)?([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})/?")
_SECURE: Final = "https://"


def parse_endpoints(text: str) -> tuple[str, ...]:
    """Read ``host:port,host:port``. A leading ``http://`` is dropped, a leading ``https://`` kept: it asks for TLS.

    Raises:
        ConfigError: There is no endpoint, or one is not of this form; the error shows it.
    """
    return tuple(_endpoint(part.strip()) for part in text.split(","))


def _endpoint(text: str) -> str:
    """Return ``host:port`` or ``https://host:port``."""
    found = _ENDPOINT.fullmatch(text)
    if not found or not 1 <= int(found[3]) <= 65_535:
        raise ConfigError("etcd", text, "host:port, several with commas between; https:// before one that needs TLS")
    scheme = _SECURE if found[1] == _SECURE else ""
    return f"{scheme}{found[2]}:{found[3]}"


@dataclass(frozen=True, kw_only=True)
class EtcdSettings:
    """Where etcd is, and how to get in.

    Attributes:
        endpoints: From ``parse_endpoints``; tried in turn.
        user: With ``password``; None where etcd asks for neither.
        ca_file: PEM of the authorities to trust; None for the well-known ones.
        cert_file: PEM of this process's own certificate, with ``key_file``.
    """

    endpoints: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ConfigError("etcd", "", "at least one host:port")
        _check_both(
            ("--etcd-user (TALLY_ETCD_USER)", self.user),
            ("--etcd-password (TALLY_ETCD_PASSWORD)", self.password),
        )
        _check_both(
            ("--etcd-cert (TALLY_ETCD_CERT)", self.cert_file),
            ("--etcd-key (TALLY_ETCD_KEY)", self.key_file),
        )

    @property
    def tls(self) -> bool:
        """Whether to encrypt: a certificate is named, or an endpoint says ``https://``."""
        # For all endpoints if for one: a password must not go to another one in the clear.
        return bool(self.ca_file or self.cert_file) or any(one.startswith(_SECURE) for one in self.endpoints)

    @property
    def targets(self) -> tuple[str, ...]:
        """The endpoints as ``host:port``."""
        return tuple(one.removeprefix(_SECURE) for one in self.endpoints)


def _check_both(*pair: tuple[str, object]) -> None:
    """See that both are given, or neither; what they are is not shown: one is a password."""
    given = [setting for setting, value in pair if value is not None]
    missing = [setting for setting, value in pair if value is None]
    if given and missing:
        raise ConfigError(missing[0], None, f"{given[0]} goes with it")


class CreateRevision(NamedTuple):
    """True while the key is the one that revision ``equals`` made; 0: while there is no such key."""

    key: str
    equals: int


class ModRevision(NamedTuple):
    """True while revision ``equals`` is the last that wrote the key; 0: while there is no such key."""

    key: str
    equals: int


class ValueIs(NamedTuple):
    """True while the key has this value."""

    key: str
    equals: str | bytes


class Put(NamedTuple):
    """Write a key; under ``lease`` it goes when that does, with 0 it stays."""

    key: str
    value: str | bytes
    lease: int = 0


class Delete(NamedTuple):
    """Delete a key, if it is there."""

    key: str


Compare = CreateRevision | ModRevision | ValueIs


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a transaction.

    Attributes:
        ok: Every comparison was true, and all was written; otherwise nothing was.
        revision: Of etcd after it; where ``ok``, the mod_revision of what it wrote.
    """

    ok: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The keys below a prefix, all as of one revision.

    Attributes:
        revision: That one.
        found: The keys asked for, in order.
        count: How many there are below the prefix, those not asked for too.
    """

    revision: int
    found: tuple[KeyValue, ...]
    count: int
