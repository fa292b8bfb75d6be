"""Kills of the server and losses of power at random instants while machines install and operators change objects.

Nothing that was acknowledged may be lost, no machine may install twice, and nothing may be left over.
"""

import os
import random

import pytest

from support.crash_testbed import CrashTestbed

ROUNDS, LONG_ROUNDS = 10, 200
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))


def report(testbed, rounds):
    """Prints the seed and the figures, which a failed test shows."""
    print(f"\nCRASH_SEED={SEED}, {rounds} rounds: {testbed.figures()}")


@pytest.fixture
def testbed():
    """A LAN with the server on a disk that loses unsynced writes."""
    testbed = CrashTestbed(SEED)
    yield testbed
    testbed.close()


def test_a_crash_loses_nothing_that_was_acknowledged(testbed, request):
    rounds = LONG_ROUNDS if request.config.getoption("long") else ROUNDS
    testbed.run(rounds)
    if not testbed.findings:
        testbed.finish()
    report(testbed, rounds)
    assert testbed.findings == [], f"CRASH_SEED={SEED}"
    figures = testbed.figures()
    for event in ("complete_acked", "install_acked", "tftp", "iscsi_read", "config", "acked host", "acked iso"):
        assert figures.get(event, 0) >= min(rounds / 4, 8), f"the clients got something done: {event} in {figures}"


def test_the_checker_finds_what_a_disk_without_syncs_loses():
    """A disk that confirms a sync and does not do it loses acknowledged state, which the checker must find."""
    testbed = CrashTestbed(SEED, machines=2, ignore_syncs=True)
    try:
        testbed.run(ROUNDS, is_power_loss=True)
        assert testbed.findings, f"CRASH_SEED={SEED}: no loss was found in {testbed.figures()}"
    finally:
        testbed.close()
