"""The word that ends an import before its time."""

import asyncio
from contextlib import suppress


class Halt:
    """Set once: from then on nothing more is sent. Says why."""

    def __init__(self) -> None:
        self.reason = ""
        self._set = asyncio.Event()

    def set(self, reason: str) -> None:
        """Halt; only the first reason counts."""
        if not self._set.is_set():
            self.reason = reason
            self._set.set()

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._set.is_set()

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._set.wait()

    async def within(self, seconds: float) -> bool:
        """Wait until it is set, but not longer than this; say whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._set.wait()
        return self.is_set()
