"""The boots of all selected tests are staged at the same time; each test waits for its own.

The environment variable STALL_REPORT names a file for what all machines did and what was said of them.
"""

import os
from pathlib import Path

import pytest

from support.stage import Stage
from support.staged_networks import NETWORKS

SLOW = 30  # seconds: rows with a later diagnosis come at the end, and so do healthy boots, which are watched until then


def pytest_collection_modifyitems(config, items):
    mine = [item for item in items if "diagnosis" in item.path.parts]
    for item in mine:
        if row_of(item) and row_of(item).is_long and not config.option.long:
            item.add_marker(pytest.mark.skip(reason="takes minutes: --long"))
    slow = [item for item in mine if row_of(item) and (row_of(item).at > SLOW or not row_of(item).reason)]
    if slow:
        end = items.index(mine[-1]) + 1
        items[:] = [item for item in items[:end] if item not in slow] + slow + items[end:]


def row_of(item):
    """Returns the row of a test, or None."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("row") if callspec else None


class StagedBoots:
    """The stage of all rows; where pytest-xdist gives the modules to several processes, one for each module."""

    def __init__(self, rows, is_parallel):
        self.rows, self.is_parallel, self.stages = rows, is_parallel, {}

    def outcome(self, row):
        key = row.story.__module__ if self.is_parallel else "all"
        if key not in self.stages:
            self.stages[key] = Stage([one for one in self.rows if key in ("all", one.story.__module__)], NETWORKS)
        return self.stages[key].outcome(row)

    def close(self):
        return [log for stage in self.stages.values() for log in stage.close()]


@pytest.fixture(scope="session")
def stage(request):
    """The staged boots of all selected tests."""
    items = [item for item in request.session.items if row_of(item) and not item.get_closest_marker("skip")]
    boots = StagedBoots(list(dict.fromkeys(map(row_of, items))), hasattr(request.config, "workerinput"))
    yield boots
    if report := os.environ.get("STALL_REPORT"):
        Path(report).write_text("\n\n".join(outcome.story() for stage in boots.stages.values() for outcome in stage.outcomes.values()))
    panicked = boots.close()
    assert not panicked, f"no server panicked: {panicked}"
