"""The command ``tally``, also as ``python -m tally``."""

from tally import logs
from tally.command.root import tally


def main() -> None:
    """Run the command line; the exit status says how it went."""
    logs.configure_command()
    tally(prog_name="tally")


if __name__ == "__main__":
    main()
