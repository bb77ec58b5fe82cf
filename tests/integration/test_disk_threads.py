"""The store's threads: what is cancelled has ended, and a disk that fails beside the worker ends the engine too."""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from shard.counting.changes import Changes
from shard.storage.disk import Disk
from shard.storage.store import Store
from tests.support.waiting import until

PATIENT_S: Final = 10.0
PART: Final = Changes([(b"u key", b"")])


class HeldStore(Store):
    """A store whose writes begin, and go on when they may."""

    def __init__(self, path: Path) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        super().__init__(path)

    def write(self, groups: Iterable[Changes]) -> None:
        self.begun.set()
        assert self.may_go_on.wait(PATIENT_S)
        super().write(groups)


async def test_cancelled_write_of_a_clone_has_ended_when_its_caller_goes_on(tmp_path: Path) -> None:
    """The clone is dropped next: a write that comes after that would stay for ever."""
    store = HeldStore(tmp_path / "db")
    disk = Disk(store)
    try:
        writing = asyncio.create_task(disk.write_beside(PART))
        await until(store.begun.is_set)
        writing.cancel()
        _, still = await asyncio.wait([writing], timeout=0.05)
        assert still == {writing}
        store.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert store.get([PART.puts[0][0]]) == [b""]
    finally:
        store.may_go_on.set()
        disk.close()
