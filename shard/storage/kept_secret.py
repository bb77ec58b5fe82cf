"""The cluster's secret in a shard's data directory, so that an etcd that lost it can be given it again."""

from pathlib import Path

import structlog

from tally.cluster.secret import SECRET_FILE, ClusterSecret
from tally.errors import BadClusterData
from tally.files import PRIVATE_DIRECTORY, write_whole

log = structlog.get_logger()


class KeptSecret:
    """The file. A disk that fails is no reason to end: it is tried again the next time."""

    def __init__(self, data: Path) -> None:
        """Take over what is there; the directory is."""
        self._file = data / SECRET_FILE
        self._kept: ClusterSecret | None = None
        self._failure = ""
        try:
            self._kept = ClusterSecret.from_json(self._file.read_bytes(), str(self._file))
        except FileNotFoundError:
            pass
        except (OSError, BadClusterData) as exc:
            log.warning("secret_file_not_readable", file=str(self._file), reason=str(exc))

    def keep(self, secret: ClusterSecret) -> None:
        """Write the secret, if it is another one than what is there; it is durable then. Takes as long as the disk."""
        if secret == self._kept:
            return
        try:
            write_whole(self._file, secret.to_json())
        except OSError as exc:
            if (failure := str(exc)) != self._failure:
                log.warning("secret_file_not_written", file=str(self._file), reason=failure)
            self._failure = failure
        else:
            self._kept, self._failure = secret, ""


def make_private(data: Path) -> None:
    """Let nobody else into a data directory; an older version made them open to all who are on the machine."""
    try:
        mode = data.stat().st_mode
        if mode & 0o077:
            data.chmod(PRIVATE_DIRECTORY)
            log.info("directory_made_private", path=str(data), was=oct(mode & 0o777))
    except OSError as exc:
        log.warning("directory_open_to_others", path=str(data), reason=str(exc))
