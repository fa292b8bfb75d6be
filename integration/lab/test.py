"""Runs the boots, as many at a time as there are cores, and writes "PASSED FAILED" into the file given."""

import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import boots, kit, lab, network, proxy, scenarios
from .process import LabError

HEARTBEAT = 20.0  # seconds


class Progress:
    """Prints a line as each boot starts and ends, and which ones are running every `HEARTBEAT` seconds without one."""

    def __init__(self, count):
        self._running = {}  # name -> time of its start
        self._changed = threading.Condition()
        self._closed = False
        self._done, self._count = 0, count
        self._thread = threading.Thread(target=self._pulse, daemon=True)
        self._thread.start()

    def start(self, name):
        with self._changed:
            self._running[name] = time.monotonic()
            print(f"boot {self._done + len(self._running)} of {self._count}: {name}", flush=True)
            self._changed.notify_all()

    def end(self, name, passed, reason):
        with self._changed:
            seconds = time.monotonic() - self._running.pop(name)
            self._done += 1
            print(f"{'ok     ' if passed else 'FAILED '}  {name} ({seconds:.1f} s){reason}", flush=True)
            self._changed.notify_all()

    def _pulse(self):
        with self._changed:
            while not self._closed:
                if not self._changed.wait(HEARTBEAT):
                    now = time.monotonic()
                    running = (f"{name} ({now - start:.0f} s)" for name, start in self._running.items())
                    print(f"  running: {'; '.join(running)}", flush=True)

    def close(self):
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()


def run_one(parts, progress, name, scenario):
    """Runs one boot; returns whether it passed."""
    progress.start(name)
    try:
        scenario(parts)
        passed, reason = True, ""
    except LabError as error:
        passed, reason = False, f": {error}"
    except Exception:  # noqa: BLE001 - a bug of the lab itself is a failure with its trace
        passed, reason = False, ":\n" + traceback.format_exc()
    progress.end(name, passed, reason)
    return passed


def main(report, *words):
    lab.exit_on_signals()
    network.sweep()
    chosen = {name: scenario for name, scenario in {**proxy.SCENARIOS, **boots.SCENARIOS, **scenarios.SCENARIOS}.items()
              if not words or any(word.lower() in name.lower() for word in words)}
    if not chosen:
        print(f"no boot has one of these words in its name: {', '.join(words)}")
        return 1
    pool = ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1)))
    progress = Progress(len(chosen))
    try:
        print("looking whether KVM can run a guest", flush=True)
        parts = kit.load()
        print(f"{len(chosen)} boots, QEMU with {parts.accelerator}", flush=True)
        passed = list(pool.map(lambda item: run_one(parts, progress, *item), chosen.items()))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        progress.close()
        lab.close_all()
    Path(report).write_text(f"{passed.count(True)} {passed.count(False)}\n")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
