"""Waiting for states, with time limits that grow on a slow or busy machine."""

import time

from lab.speed import slowness


def eventually(look, wait=5):
    """Waits until `look` returns a true value and returns it; returns the last value if it never does.

    `wait` is the time limit in seconds on the reference machine.
    """
    limit = wait * slowness()
    start = time.monotonic()
    while not (found := look()) and time.monotonic() - start < limit:
        time.sleep(0.02)
    return found
