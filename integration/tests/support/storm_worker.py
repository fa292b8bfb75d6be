"""One process of a storm: it boots machines in the namespaces that it is told, each thread one machine after another.

Reads a JSON object from standard input: `server`, `netmask` and `slots`. A slot has a `space` and its `machines`, each with
`name`, `mac`, `address` and `kind` (a key of KINDS). Writes a JSON line for each machine: its name, its boots, and its fault or null.
"""

import collections
import json
import sys
import threading
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from lab.process import run, tool  # noqa: E402
from support.firmware import BIOS_ROM, IPXE_ROM, UEFI, UEFI_HTTP  # noqa: E402
from support.healthy_boots import (boot_by_4011, boot_by_autoexec, boot_disk, boot_over_http, by_ipxe, install,  # noqa: E402
                                   install_by_kernel, install_only, read_slowly)
from support.staged_machine import StagedMachine  # noqa: E402
from support.waiting import slowness  # noqa: E402

READS = 300  # kilobytes of its ISO that an install reads
TO_DISK = {"image": "localboot", "bootConfigRef": None}
Kind = collections.namedtuple("Kind", "firmware story boots seconds host", defaults=({},))
KINDS = {
    "uefi": Kind(UEFI, lambda machine: install(machine, by_ipxe, READS), 2, 17),
    "uefi_autoexec": Kind(UEFI, lambda machine: install(machine, boot_by_autoexec, READS), 2, 14),
    "uefi_4011": Kind(UEFI, lambda machine: install(machine, boot_by_4011, READS), 2, 19),
    "uefi_http": Kind(UEFI_HTTP, lambda machine: install_only(machine, boot_over_http, READS), 1, 6),
    "uefi_kernel": Kind(UEFI, lambda machine: install_by_kernel(machine, by_ipxe), 2, 18, {"image": "kernel"}),
    "bios": Kind(BIOS_ROM, lambda machine: install(machine, by_ipxe, READS), 2, 18),
    "ipxe": Kind(IPXE_ROM, lambda machine: install(machine, by_ipxe, READS), 2, 6),
    "uefi_disk": Kind(UEFI, lambda machine: boot_disk(machine, by_ipxe), 1, 7, TO_DISK),
    "bios_disk": Kind(BIOS_ROM, lambda machine: boot_disk(machine, by_ipxe), 1, 8, TO_DISK),
    "ipxe_disk": Kind(IPXE_ROM, lambda machine: boot_disk(machine, by_ipxe), 1, 2, TO_DISK),
    "slow_line": Kind(UEFI, lambda machine: read_slowly(machine, 6.0), 1, 12),
}


class Segment:
    """What a StagedMachine needs of its LAN."""

    def __init__(self, server, netmask):
        self.server, self.netmask, self.ended = server, netmask, threading.Event()

    def slowness(self):
        return slowness()

    def ip(self, space, *words):
        return run(tool("ip"), "-n", space, *words)


def play(segment, slot, delay, lock):
    """Boots the machines of a slot, one after another."""
    time.sleep(delay)  # machines are switched on one after another, as their power supplies are
    machine = None
    for one in slot["machines"]:
        kind = KINDS[one["kind"]]
        fault, begun = None, time.monotonic()
        try:
            machine = machine or StagedMachine(segment, slot["space"], one["name"], one["mac"], one["address"], kind.firmware)
            machine.become(one["name"], one["mac"], one["address"], kind.firmware)
            kind.story(machine)
        except Exception:  # the test shows it
            fault = traceback.format_exc()[-1500:] + "\n".join(machine.notes[-10:] if machine else [])
        with lock:
            print(json.dumps({"name": one["name"], "kind": one["kind"], "boots": kind.boots, "seconds": time.monotonic() - begun, "fault": fault}), flush=True)


def main():
    told = json.load(sys.stdin)
    segment, lock = Segment(told["server"], told["netmask"]), threading.Lock()
    threads = [threading.Thread(target=play, args=(segment, slot, slot["delay"], lock)) for slot in told["slots"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
