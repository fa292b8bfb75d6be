"""A machine: QEMU with real firmware, a blank disk and one network interface, watched on its serial console."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .process import LabError, Program, tool
from .qmp import Qmp

MARKER = re.compile(r"BOOTLATCH-LAB: (\S+)(.*)")
SHARE = Path("/usr/share")
DISK_SIZE = 512 << 20  # bytes; raw and sparse, so that the guest's writes survive a power cut


@dataclass(frozen=True)
class Firmware:
    """QEMU's options for a kind of machine. `code` and `variables` are the flash of UEFI; SeaBIOS has none."""

    system: str = "x86_64"
    board: tuple = ("-machine", "q35", "-vga", "std")
    code: str = ""
    variables: str = ""
    cpu: str = "max"  # under plain emulation


FIRMWARE = {
    # SeaBIOS, boot ROMs and boot loaders also write to the serial port.
    "bios": Firmware(board=("-machine", "q35,graphics=off", "-vga", "std")),
    "uefi": Firmware(code="OVMF/OVMF_CODE_4M.fd", variables="OVMF/OVMF_VARS_4M.fd"),
    # Secure Boot is on, with Microsoft's keys. Only code in SMM can write the variables.
    "secure": Firmware(board=("-machine", "q35,smm=on", "-vga", "std",
                              "-global", "driver=cfi.pflash01,property=secure,value=on"),
                       code="OVMF/OVMF_CODE_4M.secboot.fd", variables="OVMF/OVMF_VARS_4M.ms.fd"),
    "arm64": Firmware(system="aarch64", board=("-machine", "virt"),
                      code="AAVMF/AAVMF_CODE.fd", variables="AAVMF/AAVMF_VARS.fd",
                      # The architected pointer authentication would take most of the emulator's time.
                      cpu="max,pauth-impdef=on"),
}


class Machine:
    """A virtual machine, started by `power_on`. `rom` replaces QEMU's boot ROM of the network interface under BIOS. The
    `console` has the serial output, QEMU's events and the markers of the guest."""

    def __init__(self, name, firmware, mac, folder, accelerator="tcg", rom=None):
        if firmware not in FIRMWARE:
            raise LabError(f"no such firmware: {firmware}")
        self.kind = FIRMWARE[firmware]
        if self.kind.system != "x86_64":
            accelerator = "tcg"
        self.name, self.firmware, self.mac = name, firmware, mac
        self.folder, self.accelerator, self.rom = folder, accelerator, rom
        self.disk = folder / f"{name}.disk"
        self.variables = folder / f"{name}.vars"
        self.console = None
        self.qmp = None
        folder.mkdir(parents=True, exist_ok=True)
        with open(self.disk, "wb") as disk:
            disk.truncate(DISK_SIZE)
        if self.kind.variables:
            shutil.copy(SHARE / self.kind.variables, self.variables)

    def power_on(self, network=None, cdrom=None, hold=None, extra=()):
        """Starts the machine; returns the time of power-on. `hold` names the installer's step to stop at."""
        control = self.folder / f"{self.name}.qmp"
        control.unlink(missing_ok=True)
        command = self._command(control, network, cdrom, hold) + list(extra)
        if network:
            command = network.inside(network.switch, *command)
        self.console = Program(f"machine {self.name}", command, self.folder / f"{self.name}.console")
        self.qmp = Qmp(control, self.console.running, self._on_event)
        self.console.note("QEMU: POWER-ON")
        at = self.console.lines[-1][0]
        self.qmp.do("cont")
        return at

    def _command(self, control, network, cdrom, hold):
        command = [tool(f"qemu-system-{self.kind.system}"), "-name", self.name, "-S", *self.kind.board,
                   "-accel", self.accelerator, "-cpu", self.kind.cpu if self.accelerator == "tcg" else "host",
                   "-smp", "1", "-m", "768", "-nodefaults", "-display", "none",
                   "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
                   "-qmp", f"unix:{control},server=on,wait=off",
                   "-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={self.disk}",
                   "-device", "virtio-blk-pci,drive=disk,bootindex=2"]
        if self.kind.code:
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={SHARE / self.kind.code}",
                        "-drive", f"if=pflash,format=raw,file={self.variables}"]
        if network:
            # OVMF has a PXE client and a driver. SeaBIOS needs an iPXE ROM: QEMU's, which on Debian 12 is of 2019 and
            # waits 16 s for IPv6, or the one given. QEMU writes the device id only into its own ROM file, so another
            # ROM matches only the modern id.
            rom = ",romfile=" if self.kind.code else \
                f",romfile={self.rom},disable-legacy=on" if self.rom else ""
            command += ["-netdev", f"tap,id=lan,ifname={network.tap()},script=no,downscript=no",
                        "-device", f"virtio-net-pci,id=nic,netdev=lan,mac={self.mac},bootindex=1{rom}"]
        if cdrom:
            command += ["-drive", f"if=none,id=cd,format=raw,readonly=on,file={cdrom}",
                        "-device", "ide-cd,drive=cd,bootindex=0"]
        if hold:
            command += ["-fw_cfg", f"name=opt/bootlatch.lab/hold,string={hold}"]
        return command

    def _on_event(self, _when, name, data):
        self.console.note(f"QEMU: {name} {data.get('reason', '')}".rstrip())

    def wait_marker(self, name, limit, since=0):
        """Waits for the marker `name`. A failed installer or a stopped CPU ends the wait at once."""
        def meets(text):
            found = MARKER.search(text)
            return "QEMU: STOP" in text or bool(found and found.group(1) in (name, "failed"))
        index, when, text = self.console.wait_for(f"BOOTLATCH-LAB: {name}", limit, since, meets)
        found = MARKER.search(text)
        if not found or found.group(1) != name:
            raise LabError(f"machine {self.name}: expected '{name}', got: {text}; {self.console.tail(12)}")
        return index, when, dict(re.findall(r"(\w+)=(\S*)", found.group(2)))

    def press(self, *keys):
        """Presses keys one after the other; the names are QEMU's."""
        for key in keys:
            self.qmp.do("send-key", keys=[{"type": "qcode", "data": key}])

    def reset(self):
        """Presses the reset button; returns the index of the console's line where the new boot begins."""
        since = len(self.console.lines)
        self.qmp.do("system_reset")
        return since

    def screenshot(self, file):
        self.qmp.do("screendump", filename=os.fspath(file), format="png")

    def power_off(self):
        """Cuts the power."""
        if self.qmp:
            self.qmp.close()
            self.qmp = None
        if self.console:
            self.console.kill()
