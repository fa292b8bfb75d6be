"""Ends of rigs: signals, kill -9 of the leader and of the supervisor, and a server that dies. Nothing is left of them."""

import os
import signal
from pathlib import Path

import pytest

from support.rigs import MENU, assert_nothing_left, living, read_until
from support.waiting import eventually, slowness

WAITS = MENU + 'expect: [{console: "never printed", within: 1h}]\n'


@pytest.fixture
def running(user):
    """A rig that waits."""
    process = user.start("test", user.write("waits.yaml", WAITS), "waits", start_new_session=True)
    read_until(process, "Power on")
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_rig(user, running, number):
    running.send_signal(number)
    printed, _ = running.communicate(timeout=60 * slowness())
    assert running.returncode == 130, printed
    assert_nothing_left(user)
    assert not (user.folder / "waits/run").exists(), "disks are removed"
    assert 'errors="1"' in (user.folder / "waits/junit.xml").read_text(), "the reports say how far it came"


def test_nothing_outlives_a_killed_leader(user, running):
    assert any("qemu-system" in line for line in living(user.uid))
    running.kill()
    assert_nothing_left(user)


def test_nothing_outlives_a_killed_supervisor(user, running):
    supervisor = int((user.folder / "waits/.pid").read_text())
    assert "supervise" in Path(f"/proc/{supervisor}/cmdline").read_text()
    os.kill(supervisor, signal.SIGKILL)
    printed, _ = running.communicate(timeout=60 * slowness())
    assert running.returncode == 1 and "has ended" in printed, printed
    assert "has ended" in (user.folder / "waits/rig.log").read_text()
    assert not (user.folder / "waits/junit.xml").exists(), "no report of an earlier run is left"
    assert_nothing_left(user)


def test_a_directory_is_free_again_after_a_kill(user, running):
    running.kill()
    assert_nothing_left(user)
    spec = user.write("again.yaml", MENU + "expect: [{event: offer}]\n")
    code, printed = user.run("test", spec, "waits")
    assert code == 0, printed


@pytest.mark.parametrize("number, expected", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_an_up_that_is_ended_early_leaves_no_rig(user, number, expected):
    process = user.start("up", user.write("early.yaml", WAITS), "early")
    # Its machine starts some time before the rig is up.
    assert eventually(lambda: (user.folder / "early/.pid").exists(), 60), "a rig is made"
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60 * slowness())
    assert process.returncode == expected, printed
    assert_nothing_left(user)
