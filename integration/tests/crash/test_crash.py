"""Kills of the server and losses of power at random instants while machines install and operators change objects.

Nothing that was acknowledged may be lost, no machine may install twice, and nothing may be left over.
"""

import os
import random

import pytest

from support.crash_world import CrashWorld

ROUNDS, LONG_ROUNDS = 10, 200
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))


def report(world, rounds):
    """Prints the seed and the figures, which a failed test shows."""
    print(f"\nCRASH_SEED={SEED}, {rounds} rounds: {world.figures()}")


@pytest.fixture
def world():
    """A LAN with the server on a disk that loses unsynced writes."""
    world = CrashWorld(SEED)
    yield world
    world.close()


def test_a_crash_loses_nothing_that_was_acknowledged(world, request):
    rounds = LONG_ROUNDS if request.config.getoption("long") else ROUNDS
    world.run(rounds)
    if not world.findings:
        world.finish()
    report(world, rounds)
    assert world.findings == [], f"CRASH_SEED={SEED}"
    figures = world.figures()
    for event in ("complete_acked", "install_acked", "tftp", "iscsi_read", "config", "acked host", "acked iso"):
        assert figures.get(event, 0) >= min(rounds / 4, 8), f"the clients got something done: {event} in {figures}"


def test_the_checker_finds_what_a_disk_without_syncs_loses():
    """A disk that confirms a sync and does not do it loses acknowledged state, which the checker must find."""
    world = CrashWorld(SEED, machines=2, ignore_syncs=True)
    try:
        world.run(ROUNDS, is_power_loss=True)
        assert world.findings, f"CRASH_SEED={SEED}: no loss was found in {world.figures()}"
    finally:
        world.close()
