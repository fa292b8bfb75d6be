"""A rig that stays: status, console, screenshot, keys, and its end."""

import os
import subprocess

import pytest

from support.rigs import MENU, assert_nothing_left
from support.waiting import eventually


@pytest.fixture(scope="module")
def up(unprivileged):
    spec = unprivileged.write("up.yaml", MENU + 'expect: [{console: "iPXE shell"}]\n')
    code, printed = unprivileged.run("up", spec, "up")
    assert code == 0 and printed.endswith("The rig is up.\n"), printed
    yield unprivileged
    unprivileged.ask("up", "down")
    assert_nothing_left(unprivileged)


def test_status_tells_what_was_met(up):
    def met():
        said = up.ask("up", "status")
        assert said.returncode == 0, said.stderr
        return "vm1: console \"iPXE shell\": met after" in said.stdout and said.stdout
    said = eventually(met, 60)
    assert said and "vm1: runs; host: " in said, up.ask("up", "status").stdout
    server = said.splitlines()[-1].split()[-1]
    shown = up.command()[:-1] + ["get", "hosts", "--server", server]
    assert "LocalBoot" in subprocess.run(shown, capture_output=True, text=True).stdout, "any client command works with the rig's server"


def test_a_screen_is_written(up):
    said = up.ask("up", "screenshot", "vm1", up.folder / "screen.png")
    assert said.returncode == 0, said.stderr
    assert (up.folder / "screen.png").read_bytes().startswith(b"\x89PNG")


def test_keys_reach_the_console(up):
    console = subprocess.Popen(up.command("console", "vm1", "--output", "up"), cwd=up.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert up.ask("up", "press", "vm1", "down").returncode == 0
        assert console.stdout.read(20), "the menu is drawn again"
    finally:
        console.kill()
        console.wait()


def test_what_does_not_exist_is_an_error(up):
    for words, expected in ((("press", "vm2", "ret"), 'no machine "vm2"'), (("press", "vm1", "nokey"), "nokey"), (("screenshot", "vm9"), "vm9")):
        said = up.ask("up", *words)
        assert said.returncode == 1 and expected in said.stderr, said
    said = up.ask("elsewhere", "status")
    assert said.returncode == 1 and "no rig runs with elsewhere" in said.stderr


def test_down_ends_it_and_writes_the_reports(up):
    said = up.ask("up", "down")
    assert said.returncode == 0, said.stderr
    assert_nothing_left(up)
    assert (up.folder / "up/junit.xml").exists()
    assert up.ask("up", "status").returncode == 1


def test_down_fails_where_an_expectation_is_not_met(unprivileged):
    spec = unprivileged.write("early.yaml", MENU + 'expect: [{console: "no such text"}]\n')
    code, printed = unprivileged.run("up", spec, "early")
    assert code == 0, printed
    said = unprivileged.ask("early", "down")
    assert said.returncode == 1 and "not every expectation is met" in said.stderr, said
    assert 'errors="1"' in (unprivileged.folder / "early/junit.xml").read_text(), "it is not decided"
    assert_nothing_left(unprivileged)


def test_what_a_killed_rig_left_is_no_rig(up):
    """The number of its process may be that of another one now."""
    (up.folder / "up/.pid").write_text(str(os.getpid()))
    for verb in ("status", "down"):
        said = up.ask("up", verb)
        assert said.returncode == 1 and "no rig runs with up" in said.stderr, said
