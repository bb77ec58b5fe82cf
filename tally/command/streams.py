"""The standard streams of a command: a closed or full one is an error of one line, not a traceback."""

import os
import sys

import click

from tally.errors import TallyError


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
        give_up_stdout()
        raise StreamFailed("stdout", exc.strerror or str(exc)) from exc


def give_up_stdout() -> None:
    """Let Python's last flush, at the end of the process, not complain a second time."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
