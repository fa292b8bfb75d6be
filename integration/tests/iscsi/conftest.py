"""Fixtures of the iSCSI tests: media, targets, and the silent sessions that run while the other tests do."""

import os
import tempfile
from pathlib import Path

import pytest

from support.iscsi_target import Media
from support.silent_sessions import SilentSessions


@pytest.fixture(scope="session")
def media():
    """A disk and a CD-ROM of random data, and a sparse DVD."""
    with tempfile.TemporaryDirectory(prefix="bisc-") as folder:
        media = Media(Path(folder))
        media.disk.write_bytes(os.urandom(16 << 20))
        media.cd.write_bytes(os.urandom((4 << 20) + 1000))
        with open(media.dvd, "wb") as sparse:
            sparse.truncate(1 << 30)
        yield media


@pytest.fixture
def target(media):
    """A target with all media, for one test."""
    with media.target() as target:
        yield target


@pytest.fixture(scope="session", autouse=True)
def silent_sessions(request, media):
    """Sessions that say nothing for two minutes, started first so that the other tests run meanwhile."""
    if not any("silent_sessions" in item.name for item in request.session.items):
        yield None
        return
    sessions = SilentSessions(media)
    sessions.start()
    yield sessions
    sessions.stop()


def pytest_collection_modifyitems(items):
    """Moves the test that waits for the silent sessions to the end of the whole run."""
    items.sort(key=lambda item: "silent_sessions" in item.name)
