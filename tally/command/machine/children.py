"""How a child process is started: which code it runs, and that it ends when it should, not later and not sooner."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def python_module(name: str) -> tuple[str, ...]:
    """Return the beginning of a command line that runs a module of ours with this Python.

    ``-P``: else ``-m`` would run what lies in the working directory, instead of our modules and Python's own.
    """
    return (sys.executable, "-P", "-m", name)


def before_exec() -> Callable[[], None]:
    """Return what to pass as ``preexec_fn``. Call it, and start the child, in the main thread.

    * On Linux the child gets SIGTERM when this process dies, even by SIGKILL: when the thread that forked it ends.
    * Ctrl-C in a terminal goes to the whole process group. The child does not hear it: it is ended in its turn, by
      SIGTERM. (etcd hears it all the same, because Go unblocks what it handles.)
    """
    # Looked up before the fork: after it, hardly anything may be called.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def between_fork_and_exec() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        if prctl:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
            if os.getppid() != parent:  # It died before we asked.
                os._exit(1)

    return between_fork_and_exec
