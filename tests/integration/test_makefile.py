"""``make run`` in a fresh clone, with stand-ins for Python that write down what they are asked for."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

WITHOUT_PIP: Final = "#!/bin/sh\nexit 1\n"
WITH_PIP: Final = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in *"pip "*"install"*) printf '%s' "$PIP_SAYS" >&2; test -z "$PIP_SAYS" || exit 1;; esac
"""
SYSTEM_PYTHON: Final = """#!/bin/sh
case "$*" in "-m venv --clear .venv")
    mkdir -p .venv/bin && cp with-pip .venv/bin/python && chmod +x .venv/bin/python;; esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose .venv was begun by a Python that had no pip to put into it."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, text in {".venv/bin/python": WITHOUT_PIP, "python3": SYSTEM_PYTHON, "with-pip": WITH_PIP}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make_run(clone: Path, *arguments: str, pip_says: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "run", "PYTHON=./python3", *arguments],
        cwd=clone,
        env={**kept, "LOG": str(clone / "asked"), "PIP_SAYS": pip_says},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def asked(clone: Path) -> list[str]:
    return (clone / "asked").read_text().splitlines()


def test_environment_without_pip_is_made_anew(clone: Path) -> None:
    done = make_run(clone)
    assert done.returncode == 0, done.stderr
    assert asked(clone)[-1] == "-P -m tally up"
    assert (clone / ".venv/.installed").exists()


def test_address_of_the_gateway_can_be_chosen(clone: Path) -> None:
    assert make_run(clone, "HTTP=127.0.0.1:9000").returncode == 0
    assert asked(clone)[-1] == "-P -m tally up --http 127.0.0.1:9000"


@pytest.mark.parametrize(
    ("pip_says", "line"),
    [
        (
            "WARNING: Retrying after connection broken by '[Errno -3] name resolution'\nERROR: No such thing",
            "no way to the Python packages: is there a network?",
        ),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "the disk of .venv is full"),
        ("one\nERROR: hashes differ\ntwo", "ERROR: hashes differ"),
    ],
)
def test_installation_that_fails_says_why_in_one_line(clone: Path, pip_says: str, line: str) -> None:
    done = make_run(clone, pip_says=pip_says)
    assert done.returncode == 2
    told = [one for one in done.stderr.splitlines() if not one.startswith("make")]
    assert told == [f"Can't install: {line} (all of it: .venv/install.log)"]
    assert not (clone / ".venv/.installed").exists()
