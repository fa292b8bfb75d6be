"""Behind a NAT, as in a container on Docker's bridge: machines are told the address of the host, and every protocol passes."""

import contextlib
import hashlib
import json
import os
import socket
import struct
import subprocess

import pytest

from lab.machine import Machine
from lab.process import run
from support.dhcp_appliance import MAC, Appliance
from support.dhcp_servers import dnsmasq
from support.lan import Lan, socket_in, tool, until
from support.programs import bootlatch
from support.tiny_iso import tiny_iso

HOST, INNER = "10.88.0.5", "172.17.0.2"
RULES = f"""
table ip nat {{
  chain prerouting {{ type nat hook prerouting priority dstnat;
    ip daddr {HOST} udp dport 69 dnat to {INNER}
    ip daddr {HOST} tcp dport {{ 80, 3260 }} dnat to {INNER}
  }}
  chain postrouting {{ type nat hook postrouting priority srcnat; oifname "lan0" ip saddr 172.17.0.0/16 masquerade
  }}
}}
"""


class Nat(Lan):
    """LAN 10.88.0.0/24 on br0, the host 10.88.0.5, and the appliance behind it on br1."""

    def __init__(self):
        super().__init__("br0", "br1")
        host = self.client("host", address=f"{HOST}/24")
        self.join(host, "br1", "172.17.0.1/16", interface="inner")
        run(*self.inside(host, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        rules = self.folder / "rules.nft"
        rules.write_text(RULES)
        run(*self.inside(host, tool("nft"), "-f", str(rules)))
        box = self.client("box", "br1", address=f"{INNER}/16")
        self.ip(box, "route", "add", "default", "via", "172.17.0.1")
        self.content = os.urandom(300_001)
        (self.folder / "snponly.efi").write_bytes(self.content)
        self.appliance = Appliance(self, box, '[dhcp]\nmode = "off"\n[iscsi]\naccess = "any"\n', first=f'advertise = "{HOST}"\n')
        self.machine = self.client("machine", address="10.88.0.50/24", mac=MAC.format(50))

    def on_machine(self, *command):
        done = subprocess.run(self.inside(self.machine, *command), capture_output=True, timeout=120, cwd=self.folder)
        assert done.returncode == 0, f"{command}: {done.stdout!r} {done.stderr!r}"
        return done.stdout


@pytest.fixture(scope="module")
def nat():
    with Nat() as lan:
        yield lan


CLIENTS = {
    "curl": lambda to: [tool("curl"), "-sS", "-m", "60", "-o", to, f"tftp://{HOST}/snponly.efi"],
    "atftp": lambda to: [tool("atftp"), "--get", "-r", "snponly.efi", "-l", to, HOST],
    "tftp-hpa": lambda to: [tool("tftp"), "-m", "binary", HOST, "-c", "get", "snponly.efi", to],
    "busybox": lambda to: [tool("busybox"), "tftp", "-g", "-r", "snponly.efi", "-l", to, HOST],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_tftp(nat, client):
    received = nat.folder / f"received-{client}"
    nat.on_machine(*CLIENTS[client](str(received)))
    assert hashlib.sha256(received.read_bytes()).digest() == hashlib.sha256(nat.content).digest()


def test_tftp_answers_from_its_one_port(nat):
    settings = {one["key"]: one["value"] for one in json.loads(nat.appliance.get("/api/v1/settings"))["items"]}
    assert settings["tftp.single_port"] == "true" and settings["interfaces"] == f"lan0 (off, told {HOST})", settings
    with contextlib.closing(socket_in(nat.machine, socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(10)
        sock.sendto(b"\0\1snponly.efi\0octet\0", (HOST, 69))
        block, source = sock.recvfrom(1024)
        assert source == (HOST, 69) and struct.unpack("!HH", block[:4]) == (3, 1)
        sock.sendto(b"\0\5\0\0enough\0", source)


def test_scripts_name_the_address_of_the_host(nat):
    script = nat.on_machine(tool("curl"), "-sS", "-m", "20", f"http://{HOST}/boot.ipxe").decode()
    assert f"http://{HOST}" in script and INNER not in script, script


def test_sendtargets_and_the_script_of_an_install_name_the_address_of_the_host(nat):
    iso = nat.folder / "live.iso"
    iso.write_bytes(tiny_iso())
    nat.appliance.command("iso", "add", "live", str(iso))
    mac = MAC.format(50)
    listed = nat.on_machine(tool("iscsi-ls"), "-s", f"iscsi://{HOST}").decode()
    assert f"{HOST}:3260" in listed and ":live" in listed and INNER not in listed, listed
    nat.on_machine(tool("curl"), "-sS", "-m", "20", f"http://{HOST}/ipxe?mac={mac}")
    nat.appliance.command("host", "assign", mac.replace(":", "-"), "--image", "live")
    script = nat.on_machine(tool("curl"), "-sS", "-m", "20", f"http://{HOST}/ipxe?mac={mac}").decode()
    assert f"iscsi:{HOST}:" in script and INNER not in script, script


def test_real_firmware_boots(nat):
    """SeaBIOS with QEMU's iPXE ROM, whose address and boot file are dnsmasq's: it gets its script through the NAT."""
    space = nat.client("dhcp", address="10.88.0.4/24")
    dnsmasq(nat, space, "--no-ping", "--dhcp-range=10.88.0.200,10.88.0.220,1h", f"--dhcp-boot=http://{HOST}/boot.ipxe")
    nat.ip(nat.switch, "tuntap", "add", "tap0", "mode", "tap")
    nat.ip(nat.switch, "link", "set", "tap0", "master", "br0", "up")
    nat.tap = lambda: "tap0"
    machine = Machine("pc", "bios", MAC.format(6), nat.folder / "pc")
    name = MAC.format(6).replace(":", "-")
    try:
        machine.power_on(nat)
        until("its script is served", lambda: any(entry["event"] == "local_disk" and name in str(entry) for entry in nat.appliance.timeline()), 90)
    finally:
        machine.power_off()


def test_an_address_of_the_host_is_refused_with_the_key_to_use():
    with Lan("br0") as lan:
        space = lan.client("srv", address="10.88.0.2/24")
        file = lan.folder / "bootlatch.toml"
        file.write_text(f'interface = "lan0"\naddress = "{HOST}"\nuser = "nobody"\n')
        program = lan.start(space, "bootlatch", str(bootlatch()), "serve", "--config", str(file), "--state-dir", str(lan.folder / "state"))
        program.says("`advertise`")
