"""Logging: one event name and facts with units on a line, to stderr. JSON, or coloured text on a terminal.

Invariants:
  * no log call raises, and none waits: for a disk, for a pipe that nobody reads, or for a terminal that is stopped;
  * what could not be written is counted, and the log says how much that was as soon as it can be written again;
  * nobody fills the log from outside: each event name has a rate, and what is beyond it is counted;
  * text that somebody gave is escaped: it begins no line, and moves no cursor.

User names are never logged.

    backlog   the lines that wait to be written, with a bound
    bounds    how often an event may be logged
    lines     from facts to one line
    writer    the thread that writes
    streams   stderr and stdout as the rest of Python sees them
    setup     puts these together, and takes in what Python and its libraries say
"""

from tally.logs.setup import LEVELS, configure, configure_command, dropped, flush, guard_output, held_back, name_process

__all__ = ["LEVELS", "configure", "configure_command", "dropped", "flush", "guard_output", "held_back", "name_process"]
