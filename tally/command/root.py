"""The command line ``tally`` and its subcommands."""

from typing import Any

import click

from tally import __version__
from tally.command.cluster_config import config
from tally.command.cluster_secret import secret
from tally.command.create import create
from tally.command.drain import drain
from tally.command.give_up import give_up
from tally.command.importer.import_file import import_file
from tally.command.machine.up import up
from tally.command.members import members
from tally.command.options import completion
from tally.command.recovery.recover import recover
from tally.command.status import status
from tally.command.streams import STDOUT, check_open
from tally.command.streams import give_up as give_up_stream
from tally.errors import ConfigError, TallyError


class Refused(click.ClickException):
    """An option's value can't be used."""

    exit_code = 2


class Commands(click.Group):
    """Subcommands whose errors of ours become one line on stderr and an exit status, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            check_open("stdout", "stderr")
            return super().invoke(ctx)
        except ConfigError as exc:
            raise Refused(str(exc)) from exc
        except TallyError as exc:
            raise click.ClickException(str(exc)) from exc
        except OSError as exc:  # A full disk, a pipe whose reader is gone.
            give_up_stream(STDOUT)
            raise click.ClickException(_reason(exc)) from exc


def _reason(exc: OSError) -> str:
    """Return what the system says, and of which file, without its number."""
    where = f": {exc.filename}" if exc.filename else ""
    return f"{exc.strerror}{where}" if exc.strerror else str(exc)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=completion("tally"),
)
@click.version_option(__version__, prog_name="tally")
def tally() -> None:
    """Count clicks, impressions and unique users per hour, exactly, on a cluster of shards.

    \b
    A cluster on this machine, in one terminal:
      tally up
    and in another:
      tally status
      tally import events.csv.gz

    \b
    A cluster against your own etcd, each line on a machine of its own:
      tally create --etcd etcd:2379 --shards 3
      tally-shard --etcd etcd:2379 --id s1 --data /var/lib/tally --listen 0.0.0.0:9101 --advertise s1:9101
      tally-gateway --etcd etcd:2379 --listen 0.0.0.0:8080

    \b
    With a cluster that runs:
      tally config set copies 3 --min-copies 2     how many shards keep each slot
      tally drain s2 --wait                        empty a shard, to take it out
      tally members                                who belongs to the cluster
      tally recover --shards 3 --data DIR          bring the map back after etcd lost it

    Every option can also be given as the environment variable that its help names.
    """  # noqa: D301 - \b is how click keeps lines apart.


for command in (up, create, status, import_file, members, drain, config, secret, give_up, recover):
    tally.add_command(command)
