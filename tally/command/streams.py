"""The standard streams of a command: a closed or full one is an error of one line, not a traceback."""

import os
import sys
from typing import Final

import click

from tally.errors import TallyError

STDOUT: Final = 1
STDERR: Final = 2


class StreamFailed(TallyError):
    """A standard stream can't be used."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} can't be used: {self.reason}"


def check_open(*names: str) -> None:
    """Make sure that these are open: ``stdin``, ``stdout``, ``stderr``.

    Raises:
        StreamFailed: One is closed. Its number may be that of another file by now: nothing must be read or written.
    """
    for name in names:
        if getattr(sys, name) is None:
            raise StreamFailed(name, "it is closed")


def say(text: str) -> None:
    """Write a result to stdout.

    Raises:
        StreamFailed: It can't be written.
    """
    try:
        click.echo(text)
    except OSError as exc:
        give_up(STDOUT)
        raise StreamFailed("stdout", exc.strerror or str(exc)) from exc


def give_up(stream: int) -> None:
    """Let Python's last flush of a stream that failed not fail again: it would end the process with status 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)
