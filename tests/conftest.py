"""What all tests share: the long forms, which run with ``--full`` only."""

import pytest
from hypothesis import settings

# A deadline for an example would measure the machine, which others use too.
settings.register_profile("tally", deadline=None)
settings.load_profile("tally")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``make faults`` ask for every row of the fault matrix."""
    parser.addoption("--full", action="store_true", help="run the long forms too: every row of the fault matrix")
    parser.addoption("--minutes", type=float, default=0.4, help="how long a soak takes (make soak MINUTES=60)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``full``: a row that has a shorter sister, or takes minutes."""
    if config.getoption("--full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
