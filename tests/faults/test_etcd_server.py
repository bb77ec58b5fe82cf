"""The etcd of a test: what would outlive it would take ports and processors from all later tests."""

import threading
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer

JOIN_S = 30.0


def processes_with(word: str) -> list[int]:
    """Return those whose command line has it."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in command.read_bytes():
                found.append(int(command.parent.name))
        except OSError:  # It has ended meanwhile.
            continue
    return found


def test_etcd_is_not_started_after_its_block() -> None:
    with EtcdServer() as etcd:
        etcd.stop()
    with pytest.raises(RuntimeError, match="not to be started"):
        etcd.launch()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # The start is told that it failed.
@pytest.mark.parametrize("later_s", [0.0, 0.002, 0.02])
def test_start_that_another_thread_is_at_when_the_block_ends_leaves_no_process(later_s: float) -> None:
    with EtcdServer() as etcd:
        etcd.stop()
        starting = threading.Thread(target=etcd.start)
        starting.start()
        starting.join(later_s)
    starting.join(JOIN_S)
    assert not starting.is_alive()
    assert not etcd.runs
    assert processes_with(str(etcd._directory)) == []
