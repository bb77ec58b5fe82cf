"""The store, used from the event loop: its calls block, so each goes to a thread. A disk that hangs is a failed one."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from shard.counting.changes import Changes
from shard.storage.store import Store
from tally.errors import StoreFailed
from tally.tasks import awaited

DISK_MAX_S: Final = 20.0

_T = TypeVar("_T")


async def ended(task: "asyncio.Future[_T]") -> None:
    """Wait until a task has ended, whatever comes of it, and however often the caller is cancelled meanwhile."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])


class Disk:
    """One store and its threads. All methods belong to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._flush_began = float("-inf")  # When the last successful flush began, by the monotonic clock.
        self._work_threads = ThreadPoolExecutor(1, "write")
        self._read_threads = ThreadPoolExecutor(2, "read")
        self._clone_threads = ThreadPoolExecutor(2, "clone")

    @property
    def flush_began(self) -> float:
        """When the last successful flush began, by the monotonic clock."""
        return self._flush_began

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look up what readers ask for."""
        return await self._in_thread(self._read_threads, lambda: self._store.get(keys))

    async def work(self, call: Callable[[], _T]) -> _T:
        """Do one thing for the worker.

        Raises:
            StoreFailed: It took longer than ``DISK_MAX_S``.
        """
        try:
            async with asyncio.timeout(DISK_MAX_S):
                return await self._in_thread(self._work_threads, call)
        except TimeoutError as exc:
            raise StoreFailed(f"the disk took longer than {DISK_MAX_S:.0f} s") from exc

    async def write_and_flush(self, groups: Sequence[Changes]) -> None:
        """Write for the worker; durable when this returns."""

        def write() -> float:
            self._store.write(groups)
            began = time.monotonic()
            self._store.flush()
            return began

        self._flush_began = await self.work(write)

    async def beside(self, call: Callable[[], _T]) -> _T:
        """Do a part of a clone: a long thing, beside the worker."""
        return await self._in_thread(self._clone_threads, call)

    async def write_beside(self, changes: Changes) -> None:
        """Write a part of a clone; the worker's next flush makes it durable.

        Cancelled, it waits all the same: what is dropped next must not be written after that.
        """
        writing = awaited(self.beside(lambda: self._store.write([changes])), name="part of a clone")
        try:
            await asyncio.shield(writing)
        finally:
            await ended(writing)

    @staticmethod
    async def _in_thread(threads: ThreadPoolExecutor, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    def close(self) -> None:
        """Wait for the threads, and close the store."""
        for threads in (self._work_threads, self._read_threads, self._clone_threads):
            threads.shutdown(cancel_futures=True)
        self._store.close()
