"""Fixtures of the tests of the systemd unit."""

import pytest

from support.lan import Lan
from support.systemd_world import SystemdWorld


@pytest.fixture(scope="module")
def world():
    """A systemd with the unit, on a LAN."""
    with Lan("br0") as lan:
        world = SystemdWorld(lan)
        world.programs = lan.programs
        yield world
        world.close()


@pytest.fixture
def service(world):
    """The unit, started with its first configuration, and stopped after the test."""
    world.configure()
    world.systemctl("start", "bootlatch")
    yield world
    world.systemctl("stop", "bootlatch")
    world.systemctl("reset-failed", "bootlatch", check=False)
