"""The demo: a blank machine with BIOS, then one with UEFI, each up to its installed OS."""

import sys
import time

from . import cycle, kit, lab, network
from .process import LabError

FIRMWARE = {"bios": "BIOS (SeaBIOS, QEMU's iPXE ROM)", "uefi": "UEFI (OVMF x86-64, PXEv4)"}


def show(firmware, parts):
    """Boots one machine; returns its steps."""
    def report(seconds, text):
        print(f"  {seconds:6.1f} s  {text}", flush=True)

    print(f"\n{FIRMWARE[firmware]}, a blank disk", flush=True)
    with lab.Lab(parts, f"demo-{firmware}") as testbed:
        testbed.serve()
        run = cycle.Cycle(testbed, testbed.machine(firmware), report)
        run.power_on()
        with cycle.Follow(run):
            run.install()
            run.os_up()
        return run.steps()


def print_timelines(timelines):
    print("\nSeconds from power-on" + "".join(f"{name:>10}" for name in timelines))
    for row in zip(*timelines.values()):
        cells = "".join(f"{'-' if seconds is None else f'{seconds:.2f}':>10}" for seconds, _ in row)
        print(f"  {row[0][1]:<19}{cells}")
    print("'-': the step was not seen, or is not part of that boot (an iPXE ROM needs no TFTP).", flush=True)


def main():
    lab.exit_on_signals()
    network.sweep()
    started = time.monotonic()
    parts = kit.load()
    print(f"QEMU runs with {'KVM' if parts.accelerator == 'kvm' else 'plain emulation (KVM cannot run guests here)'}")
    try:
        timelines = {firmware: show(firmware, parts) for firmware in FIRMWARE}
    except LabError as why:
        print(f"demo: {why}", file=sys.stderr)
        return 1
    finally:
        lab.close_all()
    print_timelines(timelines)
    print(f"Both machines run their installed OS. Total time: {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
