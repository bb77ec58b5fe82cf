"""The garbage collector of a process that serves: it looks at new objects, seldom, and never at those that stay."""

import gc
from typing import Final

# Most of what a request needs is freed by its last reference; the default of 700 would look at it while it is needed.
_NEW_OBJECTS: Final = 50_000
_YOUNGER_ROUNDS: Final = 20


def settle() -> None:
    """Leave alone from now on all that was loaded so far, and look through new objects less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _YOUNGER_ROUNDS, _YOUNGER_ROUNDS)
