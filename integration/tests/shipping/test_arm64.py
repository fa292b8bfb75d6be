"""The program for arm64, run by qemu-user: machines boot from it, and its database outlives kill -9.

It takes 20 minutes of CPU time to build, so that it is built with --long only, without link-time optimization. BOOTLATCH_ARM64
names one that exists.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from packager import build, elf
from support.dhcp_appliance import OURS
from support.lan import Lan, tool, until
from support.objects import host
from support.packages import FIRMWARE, package
from support.served_boot import check_boot, command, is_ready
from support.waiting import slowness


@pytest.fixture(scope="module")
def program(request):
    """The static program for arm64."""
    if path := os.environ.get("BOOTLATCH_ARM64"):
        return Path(path)
    if not request.config.option.long:
        pytest.skip("20 minutes of CPU time: --long, or BOOTLATCH_ARM64=FILE")
    return build.program("arm64", static=True, small=True)


class EmulatedServer:
    """bootlatch for arm64 in a namespace of a LAN, by qemu-user; its state outlives a restart."""

    def __init__(self, lan, program):
        self.lan, self.program_file = lan, program
        self.space = lan.client("srv", address=f"{OURS}/24")
        self.state = lan.folder / "state"
        self.start()

    def start(self):
        self.program = self.lan.start(self.space, "bootlatch", tool("qemu-aarch64-static"), str(self.program_file), "serve", "--config", "/dev/null", "--interface", "lan0",
                                      "--unknown-hosts", "menu", "--state-dir", str(self.state), "--firmware-dir", str(FIRMWARE))
        until("the server is ready", lambda: is_ready(self.state), 60)

    def stop(self, how):
        self.program.process.send_signal(how)
        return self.program.process.wait(30 * slowness())


def test_the_form_of_the_program(program):
    assert elf.architecture(program) == "arm64" and elf.libraries(program) == [] and elf.glibc(program) is None
    print(f"arm64, static, without symbols: {program.stat().st_size} bytes", file=sys.stderr)


def test_a_machine_boots(program):
    with Lan("br0") as lan:
        server = EmulatedServer(lan, program)
        check_boot(lan, server.state, FIRMWARE / "snponly.efi")
        assert server.stop(signal.SIGTERM) == 0, server.program.text()


def test_what_was_acknowledged_outlives_kill(program):
    with Lan("br0") as lan:
        server = EmulatedServer(lan, program)
        for number in range(1, 21):
            command(server.state, "apply", "-f", "-", text=json.dumps(host(f"node{number}", number)))
            if number % 5 == 0:
                assert server.stop(signal.SIGKILL) == -signal.SIGKILL
                server.start()
        found = json.loads(command(server.state, "get", "hosts", "-A", "-o", "json"))["items"]
        assert sorted(entry["metadata"]["name"] for entry in found) == sorted(f"node{number}" for number in range(1, 21))


def test_the_packages(program, tmp_path):
    made = package(tmp_path, "deb", "rpm", "static", "oci", "--binary", f"arm64={program}", "--static-binary", f"arm64={program}", "--native", os.environ["BOOTLATCH"])
    names = sorted(path.name for path in made)
    assert names == ["bootlatch-0.1.0-1.aarch64.rpm", "bootlatch-0.1.0-linux-arm64.tar.gz", "bootlatch-firmware-0.1.0-1.noarch.rpm", "bootlatch-firmware_0.1.0-1_all.deb",
                     "bootlatch_0.1.0-1_arm64.deb", "bootlatch_0.1.0_docker_arm64.tar", "bootlatch_0.1.0_oci.tar"]
    control = os.popen(f"dpkg-deb -f {tmp_path}/bootlatch_0.1.0-1_arm64.deb").read()
    assert "Architecture: arm64" in control and not re.search(r"^Depends:.*libc6", control, re.M), "a static program needs no library"
