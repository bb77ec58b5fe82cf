"""What came of an import, in words and as exit status. Pure."""

import shlex
import signal

from tally.command.importer.keys import Again
from tally.command.importer.sending import Outcome


def exit_status(outcome: Outcome, again: Again, asked: signal.Signals | None) -> int:
    """Return what tells the caller how it went; after a signal as shells do it."""
    if asked is not None:
        return 128 + asked
    return 1 if outcome.refused or outcome.unknown or outcome.halted or again.changed else 0


def summary(outcome: Outcome, again: Again, took_s: float) -> str:
    """Say what came of an import: a line of numbers, and what there is to know beside them."""
    speed = outcome.counted / took_s if took_s else 0.0
    numbers = f"{outcome.counted:,} counted, {outcome.refused:,} refused, {outcome.unknown:,} unknown"
    said = [f"{numbers} in {took_s:.1f} s ({speed:,.0f} events/s)"]
    if outcome.halted:
        rest = (
            ", but all was sent"
            if outcome.unsent_from is None
            else f": nothing was sent from line {outcome.unsent_from} on"
        )
        said.append(f"stopped ({outcome.halted}){rest}")
    if how := _how_again(outcome, again):
        said.append(how)
    return "\n".join(said)


def _how_again(outcome: Outcome, again: Again) -> str:
    """Say how to import the rest, if there is one, without counting anything twice."""
    with_prefix = f"with --key-prefix {shlex.quote(again.prefix)} within 24 hours"
    if again.changed:
        return (
            "the file changed meanwhile: imported again it is another one, and all of it is counted again; "
            f"{with_prefix}, only what was not counted yet"
        )
    if again.damaged:
        return f"import it {with_prefix} when it is mended: then only what was not counted yet is counted"
    if not outcome.unknown and outcome.unsent_from is None:
        return ""
    if again.is_known:
        return "the same command within 24 hours counts the rest, and nothing twice"
    return f"the same lines {with_prefix}: the rest is counted, and nothing twice"
