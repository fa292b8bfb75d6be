"""Boots of unmodified ISOs by sanboot through the running server, each with the arguments of its host.

Debian's installers (12 for amd64, 13 for arm64), cloud-init with its seed, GRUB's rescue CD, memtest86+. The boots run
in parallel, as many as there are CPUs but at most four; each test waits for its own.
"""

import hashlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import kit, lab
from support import iso_images
from support.booted_host import ARM_BOOT, BootedHost
from support.programs import ROOT, bootlatch

ARGUMENTS = ["console=ttyS0,115200", "hello=from-bootlatch", "ds=nocloud;s=http://10.77.0.2/x/"]
QUIET = "removeArguments: [quiet]"
SEED = """#cloud-config
hostname: named-by-its-seed
bootcmd: [[sh, -c, "echo BOOTLATCH-LAB: bootcmd >/dev/console"]]
"""
BOOTS = {}


class Isos:
    """The ISOs to boot; some are made when they are first needed."""

    def __init__(self, place, debian, material):
        self.place, self.debian, self.material = place, debian, material

    def trixie(self):
        return iso_images.trixie_arm64_iso(self.place)


def boot(function):
    """Registers a boot; its name selects it on pytest's command line."""
    BOOTS[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def orderly_end():
    """Makes the signals that end a program stop pytest as Ctrl-C does, so that every lab is closed."""
    def interrupt(number, _frame):
        raise KeyboardInterrupt(f"signal {number}")
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def boots(request, orderly_end, debian, material, place):
    """The results of the selected boots, which run in the background."""
    iso = iso_images.lab_iso()
    firmware = Path(os.environ.get("LAB_FIRMWARE", ROOT / "firmware/staged"))
    parts = kit.Kit(bootlatch(), firmware, iso, "kvm" if kit.kvm_works(iso) else "tcg")
    isos = Isos(place, debian, material)
    selected = [item.callspec.params["name"] for item in request.session.items if item.fspath == request.node.fspath]
    pool = ThreadPoolExecutor(max_workers=max(1, min(4, os.cpu_count() or 1)))
    try:
        yield {name: pool.submit(BOOTS[name], parts, isos) for name in selected}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        lab.close_all()


def kernel_arguments(words=ARGUMENTS):
    """Returns the host's field with these arguments."""
    return "kernelArguments: [" + ", ".join(f"'{word}'" for word in words) + "]"


def assert_on_command_line(line, words=ARGUMENTS):
    missing = [word for word in words if word not in line.replace("'", "")]
    assert not missing, f"the host's arguments are on the kernel's command line: {missing} are missing: {line}"


@boot
def debians_installer_on_bios_with_mutual_chap(parts, isos):
    """iPXE proves itself by CHAP, and checks the server in return."""
    chap = "chap: {username: node1, secret: a-secret-of-node1, targetUsername: bootlatch, targetSecret: a-secret-of-ours}"
    with BootedHost(parts, "d-i BIOS CHAP", "bios", isos.debian, QUIET, f"{kernel_arguments()}, {chap}") as host:
        assert_on_command_line(host.wait_for_console("Command line: "))
        host.wait_for_console("Starting system log daemon")  # the installer itself, on the console that the host's argument chose
        assert "iscsi_login" in host.events(), f"the login is in the timeline: {host.events()}"


@boot
def debians_installer_as_a_disk_on_uefi(parts, isos):
    with BootedHost(parts, "d-i UEFI", "uefi", isos.debian, f"attachAs: disk, {QUIET}", kernel_arguments()) as host:
        assert_on_command_line(host.wait_for_console("Command line: "))


@boot
def debians_installer_over_http_on_uefi(parts, isos):
    with BootedHost(parts, "d-i UEFI HTTP", "uefi", isos.debian, f"method: http, {QUIET}", kernel_arguments()) as host:
        assert_on_command_line(host.wait_for_console("Command line: "))
        assert "iscsi_login" not in host.events(), f"it is not booted over iSCSI: {host.events()}"


@boot
def debian_13s_installer_for_arm64(parts, isos):
    words = [argument.replace("ttyS0", "ttyAMA0") for argument in ARGUMENTS]
    with BootedHost(parts, "d-i 13 arm64", "arm64", isos.trixie(), QUIET, kernel_arguments(words), ARM_BOOT) as host:
        assert_on_command_line(host.wait_for_console("Kernel command line: "), words)


@boot
def cloud_init_finds_the_hosts_seed_on_unit_1(parts, isos):
    """Debian 13 with its own open-iscsi and cloud-init, all in the initrd of its ISO, which is unit 0."""
    config = ("apiVersion: v1\nkind: BootConfig\nmetadata: {name: cloud}\n"
              f"spec: {{format: cloud-init, data: {{user-data: {json.dumps(SEED)}}}}}\n---\n")
    with BootedHost(parts, "cloud-init", "bios", iso_images.built("iso-cloud/build"), "configDelivery: seed, bootConfigs: [cloud]",
                    "bootConfigRef: cloud", objects=config) as host:
        at, _, first = host.wait_for_marker("unit")
        second = host.wait_for_marker("unit", at + 1)[2]
        (*_, one), (*_, two) = first["address"].split(":"), second["address"].split(":")
        assert (one, first["label"], two, second["label"]) == ("0", "BOOTLATCH_CLOUD", "1", "cidata"), \
            f"the guest sees the ISO as unit 0 and the seed as unit 1: {first}, {second}"
        digest = hashlib.sha256(SEED.encode()).hexdigest()
        mounted = host.wait_for_marker("seed")[2]
        assert mounted["user_data"] == digest, f"the mounted seed has the host's user-data: {mounted}"
        host.wait_for_marker("bootcmd")
        result = host.wait_for_marker("cloud-init")[2]
        uid = host.testbed.appliance.host("node1")["metadata"]["uid"]
        assert result["from"].startswith(f"DataSourceNoCloud[seed=/dev/{second['device']}]"), f"cloud-init reads the seed: {result}"
        assert result["instance"].startswith(uid) and result["hostname"] == "named-by-its-seed", f"cloud-init applies it: {result}, {uid}"
        kept = host.wait_for_marker("told")[2]
        assert kept["user_data"] == digest, f"cloud-init keeps the host's user-data: {kept}"


@boot
def grubs_rescue_cd_with_the_hosts_argument_on_its_screen(parts, isos):
    with BootedHost(parts, "GRUB rescue CD", "bios", isos.material.rescue, host="kernelArguments: ['hello=from-bootlatch']") as host:
        host.wait_for_screen("GNU GRUB  version", "*GNU/Linux", "Memtest86+")
        host.press("e")
        host.wait_for_screen("linux /vmlinuz root=/dev/sda1 hello=from-bootlatch")


@boot
def memtests_iso_on_uefi(parts, isos):
    # For a BIOS its El Torito entry emulates a floppy disk, which iPXE does not support.
    with BootedHost(parts, "memtest86+ UEFI", "uefi", isos.material.memtest) as host:
        host.wait_for_blue_screen()


@pytest.mark.parametrize("name", BOOTS)
def test_a_real_iso_boots(boots, name):
    boots[name].result()
