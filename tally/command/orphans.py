"""Children that do not outlive their parent, whatever ends it."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def ends_with_parent() -> Callable[[], None] | None:
    """Return what a child must do between fork and exec to get SIGTERM when this process dies, even by SIGKILL.

    Only Linux can do that; elsewhere None. Call it, and start the child, in the main thread: the kernel watches the
    thread that forked.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # Looked up before the fork: after it, hardly anything may be called.
    parent = os.getpid()

    def between_fork_and_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # It died before we asked.
            os._exit(1)

    return between_fork_and_exec
