"""Waiting for states, with time limits that grow on a slow or busy machine."""

import functools
import os
import time

# CPU seconds that the measured loop takes on the reference machine.
REFERENCE = 0.1
LOOP = 1_000_000
MAXIMUM = 30.0


@functools.cache
def measured():
    """Returns how many times slower than the reference this machine runs a fixed loop. Measured once a session."""
    start = time.process_time()
    total = 0
    for number in range(LOOP):
        total += number
    return max(1.0, (time.process_time() - start) / REFERENCE)


def slowness():
    """Returns the factor for all time limits, 1 to `MAXIMUM`: the measured speed times the current load per CPU.

    The environment variable LAB_SLOWNESS sets it.
    """
    if "LAB_SLOWNESS" in os.environ:
        return float(os.environ["LAB_SLOWNESS"])
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(MAXIMUM, measured() * max(1.0, load))


def eventually(look, wait=5):
    """Waits until `look` returns a true value and returns it; returns the last value if it never does.

    `wait` is the time limit in seconds on the reference machine.
    """
    limit = wait * slowness()
    start = time.monotonic()
    while not (found := look()) and time.monotonic() - start < limit:
        time.sleep(0.02)
    return found
