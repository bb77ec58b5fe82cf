"""Points at which a shard can be made to crash, for the tests of just that.

``tally-shard --crash-at`` names a step of a move, ``--crash-on-user`` a user whose events must not be counted.
"""

import os
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import structlog

from shard.counting.op import SubBatch
from tally import logs

log = structlog.get_logger()

CRASHED: Final = 70
"""The exit status of whoever crashed on purpose; nothing else ends a shard with it."""


class Point(StrEnum):
    """A step of a move, named by what is done when it is reached."""

    JOIN_WISHED = "join-wished"  # Controller: the wish stands in the map.
    CLONE_GRANTED = "clone-granted"  # Source: a copy is about to be sent.
    COPY_INSTALLED = "copy-installed"  # Target: the copy is durable.
    ADD_ASKED = "add-asked"  # Source: the copy is required, the controller is asked to add it.
    PROMOTE_ASKED = "promote-asked"  # Source: the queue is held, the controller is asked to promote the target.
    TERM_BEGUN = "term-begun"  # Whoever is primary in a new epoch, before it serves.


Reached = Callable[[Point], None]
"""Told of each point when it is reached."""


def goes_on(_: Point) -> None:
    """Do nothing: the point is passed."""


def crash_at(wanted: str) -> Reached:
    """Return what ends the process without warning at one point.

    Args:
        wanted: The point's name.
    """

    def reached(point: Point) -> None:
        if point == wanted:
            log.critical("crashed_on_purpose", point=point.value)
            logs.flush()
            os._exit(CRASHED)

    return reached


Counts = Callable[[SubBatch], None]
"""Told of each sub-batch just before it is counted, by the primary."""


def counts_all(_: SubBatch) -> None:
    """Do nothing: every event can be counted."""


def crash_on_user(name: str) -> Counts:
    """Return what ends the process without warning when it counts an event of one user."""
    unbearable = name.encode()

    def counts(batch: SubBatch) -> None:
        if unbearable in batch.users:
            log.critical("crashed_on_purpose", events=len(batch.users))
            logs.flush()
            os._exit(CRASHED)

    return counts
