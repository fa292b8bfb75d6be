"""Packages of the binary under test, built by integration/package with little compression."""

import os
import struct
import subprocess
from pathlib import Path

from support.programs import ROOT, bootlatch
from support.systemd_world import SystemdWorld

FIRMWARE = Path(os.environ.get("LAB_FIRMWARE", ROOT / "firmware/staged"))
EPOCH = 1796000000
ARM64 = 183  # in the header of an ELF file
COMMAND = ROOT / "integration/package"


def package(out, *words, version="0.1.0", check=True):
    """Runs integration/package; returns the files that it names."""
    command = [str(COMMAND), *words, "--fast", "--firmware", str(FIRMWARE), "--out", str(out), "--version", version, "--epoch", str(EPOCH)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return [Path(line.split()[-1]) for line in done.stdout.splitlines()]


def debs(out, version):
    """Builds the packages for Debian of the binary under test."""
    return package(out, "deb", "--binary", f"amd64={bootlatch()}", version=version)


def static_program():
    """Returns the static build of the source under test: integration/test links it."""
    path = Path(os.environ.get("BOOTLATCH_STATIC", ROOT / "target/debug/bootlatch-static"))
    assert path.is_file(), f"no {path}: cargo rustc --bin bootlatch -- -C target-feature=+crt-static, and set BOOTLATCH_STATIC"
    return path


class PackageWorld(SystemdWorld):
    """A systemd of a Debian suite without the appliance, into which packages are installed."""

    def __init__(self, lan, suite):
        self.suite = suite
        super().__init__(lan)

    def program(self):
        return "none"

    def install(self):
        """Puts nothing there: the packages do."""

    def apt(self, *words, check=True):
        """Runs apt-get, as a script does: nobody answers a question."""
        return self.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "--no-install-recommends", "--allow-downgrades", *words, check=check)

    def put_packages(self, files):
        """Installs the files, by name, out of the LAN's folder."""
        return self.apt("install", *[f"/test/{path.name}" for path in files])


def stand_in_program(path):
    """Writes an ELF header of arm64 and nothing else, where the form of a package is tested and not its program."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes(9), 2, ARM64, 1, 0, 0, 0, 0, 64, 0, 0, 64, 0, 0)
    path.write_bytes(header)
    path.chmod(0o755)
    return path
