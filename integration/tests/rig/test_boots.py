"""Boots and installs in rigs, without privileges: the reports, the exit status, and two rigs at once."""

import json
import os
import struct
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from support.rigs import MENU, read_until

INSTALL = """
dhcp: {dhcp}
images:
- {{name: lab, iso: lab.iso, config: lab-config}}
configs:
- name: lab-config
  format: ignition
  data:
    config.ign: |
      {{"ignition": {{"version": "3.3.0"}}, "storage": {{"files":
       [{{"path": "/etc/hostname", "mode": 420, "contents": {{"source": "data:,lab-node"}}}}]}}}}
machines:
- name: node1
  firmware: {firmware}
  memory_mib: 768
  disks: [{{id: d0, size_gib: 1}}]
  nics: [{{{nic}}}]
  host: {{image: lab, config: lab-config}}
expect:
- {{event: offer, within: 60s}}
- {{console: "BOOTLATCH-LAB: kernel-up", within: 120s}}
- {{event: config_fetched, within: 60s}}
- {{phase: Installed, within: 60s}}
- {{console: "BOOTLATCH-LAB: os-up", within: 120s}}
- {{never: {{phase: Failed}}}}
"""


def frames(capture):
    """Returns the frames of a pcapng file."""
    data, at, found = capture.read_bytes(), 0, []
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and struct.unpack_from("<I", data, at + length - 4)[0] == length, "each block has its length twice"
        if kind == 6:
            kept = struct.unpack_from("<I", data, at + 20)[0]
            found.append(data[at + 28:at + 28 + kept])
        at += length
    return found


def cases(output):
    """Returns the test cases of a report: their names, and what is in them."""
    suite = ElementTree.parse(output / "junit.xml").getroot().find("testsuite")
    found = [(case.get("name"), [child.tag for child in case]) for case in suite]
    assert len(found) == int(suite.get("tests"))
    return found


def test_a_menu_is_reached_and_everything_is_reported(user):
    spec = user.write("menu.yaml", MENU + 'expect:\n- {event: offer}\n- {console: "iPXE shell"}\n- {never: {event: refused}}\n')
    image = user.folder / "menu/vm1.d0.qcow2"
    image.parent.mkdir()
    image.write_text("of the user")
    os.chown(image.parent, user.uid, user.uid)
    code, printed = user.run("test", spec, "menu")
    assert code == 0 and "3 of 3 expectations met" in printed, printed
    output = user.folder / "menu"
    assert cases(output) == [("event offer", []), ('console "iPXE shell"', []), ("never event refused", [])]
    assert (output / "vm1.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "iPXE shell" in (output / "vm1.console.log").read_text()
    assert "offer" in [entry["event"] for entry in json.loads((output / "timeline.json").read_text())["items"]]
    assert any(frame[23:24] == b"\x11" and frame[36:38] == b"\0\x43" for frame in frames(output / "lan.pcapng")), "a DHCP message is captured"
    subprocess.run(["sh", "-n", output / "vm1.qemu.sh"], check=True)
    assert not (output / "run").exists(), "disks are not kept"
    assert image.read_text() == "of the user", "only the rig's own files are removed"


@pytest.mark.parametrize("firmware, dhcp, nic", [("FIRMWARE_UEFI", "proxy", ""), ("FIRMWARE_BIOS", "own", "rom: lab.rom")])
def test_a_machine_installs_and_boots_its_disk(user, firmware, dhcp, nic):
    spec = user.write(f"{firmware}.yaml", INSTALL.format(firmware=firmware, dhcp=dhcp, nic=nic))
    code, printed = user.run("test", spec, f"install-{dhcp}", limit=900)
    assert code == 0 and "6 of 6 expectations met" in printed, printed


def test_root_may_run_a_rig_too(root):
    spec = root.write("menu.json", json.dumps({"server": 'unknown_hosts = "menu"', "machines": [{"name": "vm1", "memory_mib": 256}],
                                               "expect": [{"console": "iPXE shell"}]}))
    code, printed = root.run("test", spec, "menu")
    assert code == 0, printed


def test_two_rigs_run_at_once_and_one_directory_is_for_one(user):
    spec = user.write("two.yaml", MENU + 'expect: [{console: "iPXE shell"}]\n')
    first = user.start("test", spec, "two-a")
    read_until(first, "Power on")
    code, printed = user.run("test", spec, "two-a")
    assert code == 1 and "another rig uses this directory" in printed, printed
    code, printed = user.run("test", spec, "two-b")
    assert code == 0, printed
    said = first.communicate()[0]
    assert first.returncode == 0, said


def test_keys_select_an_image_of_the_menu(user):
    """A NoCloud seed and a second CD-ROM are attached, and keys are pressed once a text is there."""
    spec = user.write("keys.yaml", """
images: [{name: lab, iso: lab.iso}]
server: |
  unknown_hosts = "menu"
machines:
- name: vm1
  memory_mib: 768
  cdroms: [{id: tools, iso_path: lab.iso, bootable: false}]
  cloud_init: {user_data: "#cloud-config\\n{}\\n"}
  boot_order: [BOOT_DEVICE_NETWORK]
  nics: [{rom: lab.rom}]
expect:
- {console: "iPXE shell", within: 60s, press: [up, ret]}
- {console: "BOOTLATCH-LAB: kernel-up", within: 120s}
""")
    code, printed = user.run("test", spec, "keys", "--keep-disks")
    assert code == 0, printed
    seed = (user.folder / "keys/run/vm1.seed.iso").read_bytes()
    assert seed[32808:32814] == b"cidata" and b"#cloud-config" in seed
