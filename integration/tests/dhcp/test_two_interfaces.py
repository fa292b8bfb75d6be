"""Two interfaces, of which one goes: what runs on the other one goes on."""

import json
import socket
import subprocess
import threading
import time

from support.dhcp_appliance import MAC, Appliance
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe
from support.iscsi_initiator import Initiator
from support.lan import Lan, entered, tool, until
from support.tiny_iso import tiny_iso

ONE, TWO = "10.88.0.2", "10.89.0.2"
CONFIG = """
[[interfaces]]
name = "lan1"
[iscsi]
access = "any"
[dhcp]
other_server_check_interval = "1h"
"""
IMAGE = {"kind": "ISCSICdrom", "apiVersion": "v1", "metadata": {"name": "live"}, "spec": {"isoFile": "live.iso", "method": "sanboot"}}
FILE = bytes(range(256)) * 4000  # 1 MB: 2000 blocks of 512 octets


def offer(space, number):
    with Client(space, MAC.format(number)) as client:
        client.send(DISCOVER, pxe(7), flags=BROADCAST)
        found = client.replies(wait=1.5, enough=len)
    return found[0].siaddr if found else None


class SlowTransfer(threading.Thread):
    """A transfer in lockstep that is under way until it is told to end."""

    def __init__(self, space, address, name):
        super().__init__()
        self.sock = socket.socket
        with entered(space):
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(5)
        self.address, self.name, self.data, self.may_end, self.error = address, name, b"", threading.Event(), None

    def run(self):
        try:
            self.sock.sendto(b"\0\1" + self.name.encode() + b"\0octet\0", (self.address, 69))
            block = 0
            while True:
                packet, peer = self.sock.recvfrom(2048)
                assert packet[:2] == b"\0\3", packet[:40]
                number = int.from_bytes(packet[2:4], "big")
                if number != (block + 1) & 0xFFFF:
                    continue
                block = number
                self.data += packet[4:]
                self.sock.sendto(b"\0\4" + packet[2:4], peer)
                if len(packet) < 516:
                    return
                if not self.may_end.is_set():
                    time.sleep(0.05)
        except (OSError, AssertionError) as error:
            self.error = error


def test_what_runs_on_the_other_interface_goes_on():
    with Lan("br0", "br1") as lan:
        space = lan.client("srv", address=f"{ONE}/24")
        lan.join(space, "br1", f"{TWO}/24", interface="lan1")
        first, second = (lan.client(f"m{number}", f"br{number}", MAC.format(number + 1), f"10.8{8 + number}.0.50/24") for number in (0, 1))
        (lan.folder / "snponly.efi").write_bytes(b"program")
        (lan.folder / "big.bin").write_bytes(FILE)
        appliance = Appliance(lan, space, CONFIG, unknown="menu")
        (appliance.state / "isos" / "live.iso").write_bytes(tiny_iso())
        created = subprocess.run(lan.inside(space, tool("curl"), "-s", "-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(IMAGE),
                                            "--unix-socket", f"{appliance.state}/api.sock", "http://x/api/v1/iscsi-cdroms"), capture_output=True, text=True).stdout
        assert '"live"' in created, created
        assert offer(first, 1) == ONE and offer(second, 2) == TWO
        with entered(first):
            initiator = Initiator(3260, "iqn.2026-11.org.bootlatch:live", address=ONE)
        read = lambda: initiator.good([0x28, 0, 0, 0, 0, 16, 0, 0, 1, 0])
        descriptor = read()
        transfer = SlowTransfer(first, ONE, "big.bin")
        transfer.start()
        until("the transfer is under way", lambda: len(transfer.data) > 2048)
        for _ in range(3):
            lan.ip(space, "link", "del", "lan1")
            until("the missing interface is said", lambda: "waiting for the interface lan1" in appliance.get("/readyz"), 5)
            assert read() == descriptor and offer(first, 1) == ONE
            lan.join(space, "br1", f"{TWO}/24", interface="lan1")
            until("the interface is served again", lambda: offer(second, 2) == TWO, 10)
            assert read() == descriptor and transfer.is_alive() and transfer.error is None
        assert appliance.get("/readyz") == "ok"
        transfer.may_end.set()
        transfer.join(60)
        assert transfer.error is None and transfer.data == FILE
        initiator.logout()
        appliance.stop()
