"""Names that mean another address from now on: a pod that was rescheduled, a server that was replaced."""

import os
import shutil
import subprocess
import sys

import pytest

FOUND_WITHIN_S = 4.0  # About 1 s on a quiet machine; gRPC's own default is 30 s.


@pytest.mark.parametrize("kind", ["shard", "etcd"])
def test_a_server_that_comes_back_with_another_address_under_its_name_is_found_soon(kind: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a mount namespace can be made by root only")
    command = [sys.executable, "-m", "tests.support.moved_name", kind]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < FOUND_WITHIN_S
