"""The one piece of chance in the client, kept out of its rules: they take it as an argument."""

import random


def jitter() -> float:
    """Return a number from 0 up to, without, 1, so that those who failed together do not come back together."""
    return random.random()  # noqa: S311 - it is no secret.
