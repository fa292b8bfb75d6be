"""The parts of every lab: what integration/setup built, and how QEMU runs on this machine."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine
from .process import LabError

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("BOOTLATCH_LAB_CACHE", ROOT / "integration/.cache"))
PROBE_LIMIT = 20.0  # seconds for a boot under KVM, which takes about three if KVM works


@dataclass
class Kit:
    """The built parts, QEMU's accelerator, and the folder for the logs of failed boots."""

    binary: Path
    firmware: Path
    iso: Path
    accelerator: str
    failures: Path = CACHE / "failed"

    @property
    def arm64_iso_builder(self):
        return ROOT / "integration/fixtures/iso-arm64/build"

    @property
    def rom(self):
        """The boot ROM for network interfaces that was built with the ISO."""
        return self.iso.with_suffix(".rom")


def load():
    """Returns the parts that integration/setup/prepare.sh exported; tries whether KVM runs a guest."""
    try:
        parts = [Path(os.environ[name]) for name in ("LAB_BINARY", "LAB_FIRMWARE", "LAB_ISO")]
    except KeyError as name:
        raise LabError(f"{name} is not set: use integration/demo, test or bench") from None
    return Kit(*parts, accelerator="kvm" if kvm_works(parts[2]) else "tcg")


def kvm_works(iso):
    """Returns whether the lab's ISO boots under KVM and UEFI. /dev/kvm may exist and not run any guest."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory(prefix="blab-") as folder:
        machine = Machine("probe", "uefi", "52:54:00:77:00:00", Path(folder), accelerator="kvm")
        try:
            machine.power_on(cdrom=iso)
            machine.wait_marker("kernel-up", PROBE_LIMIT)
            return True
        except (LabError, OSError, subprocess.SubprocessError):
            return False
        finally:
            machine.power_off()
