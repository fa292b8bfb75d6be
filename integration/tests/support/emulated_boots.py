"""Boots of an image in QEMU by plain emulation, watched on the serial console."""

import re
import shutil
import subprocess
import time
from pathlib import Path

from support.waiting import slowness


def boot(here, until, options, seconds=240):
    """Runs a machine until its serial console matches `until`; returns the console's text."""
    serial = here / "serial"
    serial.write_bytes(b"")
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-display", "none", "-no-reboot", "-nic", "none",
         "-serial", f"file:{serial}", *map(str, options)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + seconds * slowness()
    try:
        while time.monotonic() < end and machine.poll() is None:
            printed = serial.read_bytes().decode(errors="replace")
            if re.search(until, printed):
                return printed
            try:
                machine.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        printed = serial.read_bytes()[-3000:].decode(errors="replace")
        raise AssertionError(f"the console shows {until!r} (QEMU's code: {machine.poll()}):\n{printed}")
    finally:
        machine.kill()
        machine.communicate()


def ovmf(here):
    """Returns the options of a machine with UEFI firmware."""
    code = next(path for path in map(Path, ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_CODE_4M.fd")) if path.exists())
    variables = shutil.copy(str(code).replace("CODE", "VARS"), here / "vars.fd")
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={code}", "-drive", f"if=pflash,format=raw,file={variables}"]
