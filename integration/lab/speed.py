"""How slow this machine is, so that time limits hold on a slow or busy one."""

import functools
import os
import time

REFERENCE = 0.1  # CPU seconds that the measured loop takes on the machine that the limits were chosen on
LOOP = 1_000_000
MAXIMUM = 30.0


@functools.cache
def measured():
    """Returns how many times slower than the reference this machine runs a fixed loop. Measured once a process."""
    start = time.process_time()
    total = 0
    for number in range(LOOP):
        total += number
    return max(1.0, (time.process_time() - start) / REFERENCE)


def slowness():
    """Returns the factor for all time limits, from 1 to `MAXIMUM`: the measured speed times the load of each CPU.

    The environment variable LAB_SLOWNESS overrides it."""
    if "LAB_SLOWNESS" in os.environ:
        return float(os.environ["LAB_SLOWNESS"])
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(MAXIMUM, measured() * max(1.0, load))


def deadline(limit):
    """Returns the time (of time.monotonic) at which `limit` seconds of the reference machine are over."""
    return time.monotonic() + limit * slowness()
