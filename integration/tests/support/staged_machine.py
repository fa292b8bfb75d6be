"""A machine that boots over the network as a test scripts it, step by step and with the clocks of real firmware.

    machine.boot_firmware()                 # UEFI or BIOS: DHCP, port 4011, the boot program over TFTP
    script = machine.boot_ipxe()            # iPXE: DHCP, and its script over HTTP
    session = machine.attach(script)        # iSCSI
    machine.read(session, megabytes=2)
    machine.fetch_config(script)
    machine.complete(script)

It has a network namespace of its own. Its interface gets the address that the LAN's DHCP server gives to it. Sockets stay open until
it is closed, so that a machine that hangs sends no ICMP errors.
"""

import contextlib
import fcntl
import random
import socket
import struct
import time
import uuid

from support.firmware import UEFI
from support.lan import socket_in
from support.staged_firmware import FirmwareSteps
from support.staged_installer import InstallerSteps

SET_ADDRESS, SET_NETMASK = 0x8916, 0x891C  # netdevice(7)
SET_HARDWARE_ADDRESS = 0x8924
ARPHRD_ETHER = 1


class Ended(Exception):
    """The test is over, and the machine must not go on."""


class StagedMachine(FirmwareSteps, InstallerSteps):
    """`lan` has the server's address, the netmask, and the event `ended`; `firmware` is a DhcpIdentity."""

    def __init__(self, lan, space, name, mac, address, firmware=UEFI, interface="lan0"):
        self.lan, self.space, self.name, self.interface = lan, space, name, interface
        self.mac, self.address, self.firmware = mac, address, firmware
        self.uuid = uuid.UUID(int=random.Random(mac).getrandbits(128), version=4).bytes
        self.server = lan.server
        self.source = None  # address that it connects from, if that is not its interface's
        self.started = None  # time of its first DISCOVER (time.monotonic)
        self.notes = []
        self.kept = []
        self.dhcp = None
        self.reset()

    @property
    def dashed(self):
        return self.mac.replace(":", "-")

    def note(self, text):
        """Adds a line to what the machine saw, which a failed test shows."""
        at = time.monotonic() - self.started if self.started else 0.0
        self.notes.append(f"{at:6.1f} s {text}")

    def begin(self):
        """Starts the clock of the machine's first boot, unless it runs."""
        self.started = self.started or time.monotonic()

    def wait(self, seconds):
        """Lets a time of the firmware's pass."""
        if seconds and self.lan.ended.wait(seconds):
            raise Ended

    def wait_until(self, moment):
        self.wait(max(0.0, moment - time.monotonic()))

    def keep(self, opened):
        """Keeps a socket open until the machine is closed or reset."""
        self.kept.append(opened)
        return opened

    # The interface.

    def take(self, address):
        """Gives the interface an address; 0.0.0.0 takes its address away."""
        if address == "0.0.0.0":
            with contextlib.suppress(OSError):  # it has none
                self.control(SET_ADDRESS, struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address)))
            return
        for call, value in ((SET_ADDRESS, address), (SET_NETMASK, self.lan.netmask)):
            self.control(call, struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value)))

    def control(self, call, argument):
        """Makes an ioctl on the interface."""
        with contextlib.closing(socket_in(self.space, socket.AF_INET, socket.SOCK_DGRAM)) as control:
            fcntl.ioctl(control, call, struct.pack("16s", self.interface.encode()) + argument)

    def become(self, name, mac, address, firmware):
        """Makes another machine of this one: a storm has more machines than namespaces."""
        self.close()
        octets = bytes.fromhex(mac.replace(":", ""))
        self.control(SET_HARDWARE_ADDRESS, struct.pack("H6s8x", ARPHRD_ETHER, octets))
        StagedMachine.__init__(self, self.lan, self.space, name, mac, address, firmware, self.interface)

    def reset(self):
        """Restarts the machine: its firmware has no address and no connections."""
        for opened in self.kept:
            opened.close()
        self.kept.clear()
        self.dhcp = None
        self.take("0.0.0.0")

    def close(self):
        self.reset()

    def switch_off(self):
        """Takes the power away: nothing answers any more, not even ARP."""
        self.lan.ip(self.space, "link", "set", self.interface, "down")

    def switch_on(self):
        self.reset()
        self.lan.ip(self.space, "link", "set", self.interface, "up")

    def hang(self):
        """Stops answering ARP, as a program that hangs does."""
        self.lan.inside(self.space, "sysctl", "-qw", f"net.ipv4.conf.{self.interface}.arp_ignore=8")

    def revive(self):
        """Restarts a machine that hung."""
        self.lan.inside(self.space, "sysctl", "-qw", f"net.ipv4.conf.{self.interface}.arp_ignore=0")
        self.reset()

    def block(self, chain, rule):
        """Adds a rule to the machine's firewall, which stands for one on the way; `chain` is input or output."""
        table = f"add table inet t; add chain inet t {chain} {{ type filter hook {chain} priority 0; }}; add rule inet t {chain} {rule}"
        self.lan.inside(self.space, "nft", table)

    def unblock(self):
        self.lan.inside(self.space, "nft", "delete table inet t")

    def from_afar(self, address):
        """Returns the machine as it asks from an address that the server reaches through it, as behind a router."""
        self.take(self.address)
        self.lan.ip(self.space, "link", "set", "lo", "up")
        self.lan.ip(self.space, "address", "add", f"{address}/32", "dev", "lo")
        self.lan.ip(self.lan.space, "route", "replace", address, "via", self.address)
        other = object.__new__(StagedMachine)
        other.__dict__.update(self.__dict__, source=address)
        return other

    def other_card(self, mac, address, joined=False):
        """Returns the machine's second card: the same UUID. `joined` connects an interface for it; else it only sends frames."""
        interface = self.interface
        if joined:
            interface = "lan1"
            self.lan.join(self.space, mac, address, interface)
        other = object.__new__(StagedMachine)
        other.__dict__.update(self.__dict__, mac=mac, address=address, interface=interface, notes=self.notes, kept=self.kept, dhcp=None)
        return other
