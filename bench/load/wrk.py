"""wrk: so many clients, each of which asks for the next thing when it has the answer (a closed loop)."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bench.errors import LoadFailed
from bench.workloads import Workload
from tally.address import Address

_SCRIPT: Final = Path(__file__).with_suffix(".lua")
_LATE_S: Final = 10
_END_S: Final = 20.0


class Load(NamedTuple):
    """What wrk saw.

    Attributes:
        answered: Requests that were answered, whatever the answer was.
        seconds: How long it took.
        sent: Requests that left; at the end some have no answer yet.
        sent_posts: How many of them were POSTs.
        p50_us, p99_us, p999_us: Microseconds from a request to its answer.
        refused: Answers with a status of 400 or more.
        broken: Connections that could not be opened, or broke.
        late: Requests that took longer than ten seconds.
    """

    answered: int
    seconds: float
    sent: int
    sent_posts: int
    p50_us: int
    p99_us: int
    p999_us: int
    refused: int
    broken: int
    late: int

    @property
    def failure(self) -> str | None:
        """Why these figures mean nothing; None if all is well."""
        if self.answered == 0:
            return "nothing was answered"
        troubles = {"refused": self.refused, "broken": self.broken, "late": self.late}
        return ", ".join(f"{count} {name}" for name, count in troubles.items() if count) or None


def run_wrk(address: Address, workload: Workload, *, hour: int, seconds: float, seed: int) -> Load:
    """Let wrk work.

    Args:
        address: Where to ask.
        workload: What to ask.
        hour: The one that is the current one.
        seconds: For how long; wrk knows whole seconds only.
        seed: Of chance; another one for each run, because new users are named after it.

    Raises:
        LoadFailed: It did not run to its end.
    """
    url = f"http://{address}/"
    command = [
        *("wrk", "--threads", "1", "--connections", str(workload.connections)),
        *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{_LATE_S}s", "--script", str(_SCRIPT), url),
    ]
    environment = {**os.environ, **script_environment(workload, hour=hour, seed=seed)}
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds + _END_S
        )
    except subprocess.TimeoutExpired as exc:
        raise LoadFailed(f"wrk did not end within {exc.timeout:.0f} s") from exc
    if ended.returncode:
        raise LoadFailed(f"wrk ended with status {ended.returncode}: {ended.stderr.strip() or ended.stdout.strip()}")
    return parse_output(ended.stdout + ended.stderr)


def script_environment(workload: Workload, *, hour: int, seed: int) -> Mapping[str, str]:
    """Return the settings of ``wrk.lua``. Pure."""
    settings = {
        "HOUR": hour,
        "POST_SHARE": workload.post_share,
        "USERS": workload.users,
        "PAST_SHARE": workload.past_share,
        "PAST_HOURS": workload.past_hours,
        "PAST_STEP_H": workload.past_step_h,
        "SEED": seed,
    }
    return {f"BENCH_{name}": str(value) for name, value in settings.items()}


def parse_output(output: str) -> Load:
    """Read what ``wrk.lua`` prints at the end. Pure.

    Raises:
        LoadFailed: It is not there.
    """
    lines = [line for line in output.splitlines() if line.startswith('{"answered"')]
    if len(lines) != 1:
        raise LoadFailed(f"wrk did not say what it saw: {output[-500:]!r}")
    return Load(**json.loads(lines[0]))
