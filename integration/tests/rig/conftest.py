"""Fixtures of the tests of rigs: a user without privileges, and what its rigs need."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from support.programs import bootlatch
from support.rigs import USER, RigUser, assert_nothing_left



def make_user(folder, uid):
    folder.mkdir()
    for source, name in ((bootlatch(), "bootlatch"), (Path(os.environ["LAB_FIRMWARE"]), "firmware"),
                         (Path(os.environ["LAB_ISO"]), "lab.iso"), (Path(os.environ["LAB_ISO"]).with_suffix(".rom"), "lab.rom")):
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, uid, uid)
    return RigUser(folder, uid)


@pytest.fixture(scope="session")
def rig_place():
    with tempfile.TemporaryDirectory(prefix="bootlatch-rig-", dir="/var/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture(scope="session")
def unprivileged(rig_place):
    """A user without any privilege, that may not get one either."""
    # Each process of the run has a user of its own: what another one runs is not left over.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return make_user(rig_place / "user", USER + worker)


@pytest.fixture(scope="session")
def root(rig_place):
    """Root."""
    return make_user(rig_place / "root", 0)


@pytest.fixture
def user(unprivileged):
    """The user without privileges. After the test nothing of its rigs is left."""
    yield unprivileged
    assert_nothing_left(unprivileged)


