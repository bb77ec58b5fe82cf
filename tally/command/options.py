"""Options that several commands share: which etcd, which cluster, what is fixed when a cluster is made."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import click

from tally import logs
from tally.cluster.config import ClusterConfig
from tally.cluster.etcd import Etcd, EtcdSettings, parse_endpoints
from tally.cluster.keys import Keys, check_name
from tally.hashing import Shape

F = TypeVar("F", bound=Callable[..., Any])

_SHAPE: Final = Shape()  # What is fixed unless somebody says otherwise.
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


def option(name: str, **settings: Any) -> Callable[[F], F]:
    """Declare ``--some-thing``, which can also come from ``TALLY_SOME_THING``; ``--help`` shows both."""
    variable = "TALLY_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, show_envvar=True, **{"show_default": True, **settings})


def completion(command: str) -> str:
    """Say at the end of ``--help`` how a shell learns the options of a command."""
    variable = f"_{command.replace('-', '_').upper()}_COMPLETE"
    lines = (
        "\b",  # Is how click keeps lines apart.
        "Completion by the shell, for its start-up file:",
        *(f'  {shell}: eval "$({variable}={shell}_source {command})"' for shell in ("bash", "zsh")),
        f"  fish: {variable}=fish_source {command} | source",
    )
    return "\n".join(lines)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Make one decorator of several; ``--help`` shows them in this order."""

    def decorate(function: F) -> F:
        for one in reversed(options):
            function = one(function)
        return function

    return decorate


def etcd_options(text: str) -> Callable[[F], F]:
    """Declare where etcd is (``text`` explains) and how to get in; ``named`` takes them."""
    return together(
        option("--etcd", metavar="HOST:PORT,...", help=text),
        option("--etcd-user", metavar="NAME", help="Only if etcd asks for one."),
        # No password on the command line of others: the variable is the better place.
        option("--etcd-password", metavar="TEXT", help="Better given as the variable: others can see command lines."),
        option("--etcd-ca", type=_FILE, help="PEM of the authorities to trust."),
        option("--etcd-cert", type=_FILE, help="PEM of our own certificate."),
        option("--etcd-key", type=_FILE, help="PEM of its key."),
    )


cluster_option = option("--cluster", default="default", metavar="NAME", help="Several clusters can share an etcd.")

log_level_option = option(
    "--log-level", type=click.Choice(logs.LEVELS), default="info", help="The least that is logged, to stderr."
)

resolve_option = option(
    "--resolve",
    default="",
    show_default=False,
    metavar="ID=HOST:PORT,...",
    help="Where this process alone reaches the internal service of these shards, whatever etcd says.",
)

shape_options = together(
    option("--slots", default=_SHAPE.slots, help="Units of ownership. Fixed for the life of the cluster."),
    option("--spread", default=_SHAPE.widest, help="Over how many slots an hour is spread. Fixed."),
    option(
        "--hours-together", default=_SHAPE.hours_together, help="How many neighbouring hours share their slots. Fixed."
    ),
    option("--copies", type=int, default=3, help="How many shards keep each slot, where there are so many."),
)


@dataclass(frozen=True)
class Named:
    """A cluster in an etcd, as the command line names it."""

    etcd: EtcdSettings
    keys: Keys

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Etcd]:
        """Talk to its etcd for a while."""
        etcd = Etcd(self.etcd)
        try:
            yield etcd
        finally:
            await etcd.close()


def named(endpoints: str, cluster: str, access: dict[str, Any]) -> Named:
    """Put together what ``etcd_options`` and ``cluster_option`` were given.

    Args:
        endpoints: ``--etcd``, or what stands for it.
        cluster: ``--cluster``.
        access: The other ``--etcd-...`` options by name.

    Raises:
        ConfigError: One of them can't be used.
    """
    settings = EtcdSettings(
        endpoints=parse_endpoints(endpoints),
        user=access["etcd_user"],
        password=access["etcd_password"],
        ca_file=access["etcd_ca"],
        cert_file=access["etcd_cert"],
        key_file=access["etcd_key"],
    )
    return Named(settings, Keys(check_name("cluster", cluster)))


def new_config(slots: int, spread: int, hours_together: int, copies: int, shards: int) -> ClusterConfig:
    """Return the config of a new cluster, with an id that no other has.

    Raises:
        ConfigError: A setting is out of its range.
    """
    shape = Shape(slots=slots, spreads=((0, spread),), hours_together=hours_together)
    return ClusterConfig(uuid=uuid4().hex, shape=shape, copies=copies, min_copies=min(2, copies), first_shards=shards)
