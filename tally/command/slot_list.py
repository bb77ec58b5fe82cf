"""Slots as people write them: ``3-7,12``. Pure."""

import re
from collections.abc import Iterable
from typing import Final

from tally.errors import ConfigError

_PART: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def compressed(slots: Iterable[int]) -> str:
    """Return ``3-7,12`` for these slots, in any order; "" for none."""
    runs: list[list[int]] = []
    for slot in sorted(set(slots)):
        if runs and runs[-1][1] == slot - 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def named_slots(slots: Iterable[int]) -> str:
    """Return ``slot 3``, or ``slots 3-7,12``."""
    numbers = set(slots)
    return f"slot{'' if len(numbers) == 1 else 's'} {compressed(numbers)}"


def parse_slots(text: str, slots: int) -> tuple[int, ...]:
    """Return the slots that ``3-7,12`` names, in order.

    Args:
        text: What a person wrote.
        slots: How many the cluster has.

    Raises:
        ConfigError: It is not of this form, or names a slot that there is not.
    """
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= slots:
            raise ConfigError("--slots", text, f"numbers and ranges of 0..{slots - 1} with commas, such as 3-7,12")
        found.update(range(first, last + 1))
    return tuple(sorted(found))
