"""Logging of trouble that lasts: a line when it begins, one when it is over, none each time that it is met."""

import structlog

from tally.errors import EtcdFull, EtcdUnavailable, TallyError

log = structlog.get_logger()


class Trouble:
    """What one driver is troubled by at present, if anything."""

    def __init__(self, where: str) -> None:
        """Prepare; ``where`` names the driver in the log."""
        self._where = where
        self._met = ""

    def met(self, error: TallyError) -> None:
        """Note that ``error`` came up; log it unless it was the last that did."""
        # Each attempt on an etcd that is away fails in its own words.
        away = isinstance(error, EtcdUnavailable) and not isinstance(error, EtcdFull)
        met = "etcd is away" if away else str(error)
        if met != self._met:
            self._met = met
            log.warning("trouble_begun", where=self._where, error=type(error).__name__, reason=str(error))

    def over(self) -> None:
        """Note that all went well."""
        if self._met:
            log.info("trouble_over", where=self._where, was=self._met)
            self._met = ""
