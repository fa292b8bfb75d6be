"""Runs the scenarios, as many at a time as cores permit, and writes "PASSED FAILED" into the file given."""

import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import boots, kit, lab, network, proxy, scenarios
from .process import LabError


def run_one(parts, name, scenario):
    started = time.monotonic()
    try:
        scenario(parts)
        verdict, why = True, ""
    except LabError as reason:
        verdict, why = False, f": {reason}"
    except Exception:  # noqa: BLE001 - a fault of the lab's own is a failure with its trace
        verdict, why = False, ":\n" + traceback.format_exc()
    print(f"{'ok     ' if verdict else 'FAILED '}  {name} ({time.monotonic() - started:.1f} s){why}", flush=True)
    return verdict


def main(report, *words):
    lab.exit_on_signals()
    network.sweep()
    chosen = {name: scenario for name, scenario in {**proxy.SCENARIOS, **boots.SCENARIOS, **scenarios.SCENARIOS}.items()
              if not words or any(word.lower() in name.lower() for word in words)}
    pool = ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1)))
    try:
        parts = kit.load()
        print(f"{len(chosen)} scenarios, QEMU with {parts.accelerator}", flush=True)
        verdicts = list(pool.map(lambda item: run_one(parts, *item), chosen.items()))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        lab.close_all()
    Path(report).write_text(f"{verdicts.count(True)} {verdicts.count(False)}\n")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
