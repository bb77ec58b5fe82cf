"""TLS on the way to etcd: certificates that are renewed on disk, and what a handshake failed of.

Certificates live for days, processes for months: whoever renews the files restarts nothing. The files are looked at
again before each question, and read again when one of them is another by then.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import structlog

from tally.cluster.etcd_words import EtcdSettings
from tally.errors import ConfigError

log = structlog.get_logger()

# In the words of gRPC and of the OpenSSL in it, as of grpcio 1.85.
_HANDSHAKE: Final = re.compile(r"(?:tls|ssl) handshake failed", re.IGNORECASE)
_OPENSSL: Final = re.compile(r"OPENSSL_internal:(?P<code>\w+)(?:: (?P<text>(?!OK\b)[^:]+))?")
_OUTCOMES: Final[Mapping[str, str]] = {
    "Failed to create security handshaker": "certificate and key do not belong together",
    "Handshake read failed": "it speaks no TLS there, or refuses this certificate",
}


class _Stamp(NamedTuple):
    """What tells a file from the one that was there before; a link that points elsewhere counts, too."""

    device: int
    inode: int
    size: int
    changed_ns: int


class TlsFiles:
    """The PEM files that ``EtcdSettings`` names, as they are on disk now."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Read them.

        Raises:
            ConfigError: One can't be read.
        """
        self._tls = settings.tls
        self._files = (settings.ca_file, settings.key_file, settings.cert_file)
        self._stamps = self._look()
        self._complaint = ""
        self.credentials: grpc.ChannelCredentials | None = self._read()
        """What a channel needs; None for a connection in the clear."""

    def renewed(self) -> bool:
        """Read the files again if one has changed; tell whether ``credentials`` are others now.

        A file that can't be read just now, because somebody is writing it anew, changes nothing: the next look sees it.
        """
        if self._stamps == (stamps := self._look()):
            return False
        try:
            self.credentials = self._read()
        except ConfigError as exc:
            if self._complaint != (complaint := str(exc)):
                log.warning("certificates_unreadable", reason=complaint)
            self._complaint = complaint
            return False
        self._stamps, self._complaint = stamps, ""
        log.info("certificates_read_again")
        return True

    def _look(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(file) if self._tls and file is not None else None for file in self._files)

    def _read(self) -> grpc.ChannelCredentials | None:
        return grpc.ssl_channel_credentials(*map(_content, self._files)) if self._tls else None


def _stamp(file: Path) -> _Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _content(file: Path | None) -> bytes | None:
    try:
        return file.read_bytes() if file else None
    except OSError as exc:
        raise ConfigError("etcd certificate", str(file), f"a PEM file that can be read ({exc.strerror})") from exc


def tls_failure(details: str) -> str | None:
    """Return why TLS failed, for an operator, from what gRPC says of a connection; None if it was not TLS."""
    for said, meaning in _OUTCOMES.items():
        if said in details:
            return f"TLS failed: {meaning}"
    if not _HANDSHAKE.search(details):
        return None
    found = _OPENSSL.search(details)
    if found is None:
        return "TLS failed"
    code = found["code"].replace("_", " ").lower()
    return f"TLS failed: {code}" + (f" ({found['text']})" if found["text"] else "")
