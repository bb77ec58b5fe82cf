"""Help is found with -h everywhere, and says how a shell completes options."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from gateway.__main__ import gateway
from shard.__main__ import main as shard
from tally.command.root import tally


def all_below(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from all_below(one, (*path, name))


@pytest.mark.parametrize("path", list(all_below(tally)), ids="-".join)
def test_every_command_takes_h(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(tally, [*path, "-h"], prog_name="tally")
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: {' '.join(('tally', *path))} ")


@pytest.mark.parametrize(
    ("command", "name", "variable"),
    [
        (tally, "tally", "_TALLY_COMPLETE"),
        (gateway, "tally-gateway", "_TALLY_GATEWAY_COMPLETE"),
        (shard, "tally-shard", "_TALLY_SHARD_COMPLETE"),
    ],
)
def test_help_says_how_a_shell_completes(command: click.Command, name: str, variable: str) -> None:
    shown = CliRunner().invoke(command, ["-h"], prog_name=name)
    assert f'  bash: eval "$({variable}=bash_source {name})"\n' in shown.output
    script = CliRunner(env={variable: "bash_source"}).invoke(command, prog_name=name)
    assert f"complete -o nosort -F _{name.replace('-', '_')}_completion {name}" in script.output
