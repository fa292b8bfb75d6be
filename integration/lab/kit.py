"""What every lab is made with: paths that integration/prepare built, and how QEMU runs here."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine
from .process import LabError

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("BOOTLATCH_LAB_CACHE", ROOT / "integration/.cache"))
PROBE_LIMIT = 20.0  # seconds for a boot under KVM that takes about three where KVM works


@dataclass
class Kit:
    """The built parts and the accelerator; where records of failures go."""

    binary: Path
    firmware: Path
    iso: Path
    accelerator: str
    failures: Path = CACHE / "failed"

    @property
    def arm64_iso_builder(self):
        return ROOT / "integration/iso-arm64/build"

    @property
    def rom(self):
        """The boot ROM that the ISO's builder laid beside it."""
        return self.iso.with_suffix(".rom")


def load():
    """Takes what integration/prepare exported, and finds out whether KVM really runs a guest."""
    try:
        parts = [Path(os.environ[name]) for name in ("LAB_BINARY", "LAB_FIRMWARE", "LAB_ISO")]
    except KeyError as name:
        raise LabError(f"{name} is not set: use integration/demo, test or bench") from None
    return Kit(*parts, accelerator="kvm" if kvm_works(parts[2]) else "tcg")


def kvm_works(iso):
    """Boots the lab's ISO under KVM and UEFI: /dev/kvm may be there and not run any guest."""
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
