"""Programs that are downloaded once into integration/.cache."""

import contextlib
import fcntl

from support.network import host_network


@contextlib.contextmanager
def downloading(folder):
    """Lets one test process at a time fill a folder, in the network of the machine.

    The caller checks inside whether another process has filled it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with host_network():
            yield
