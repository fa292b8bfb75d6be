"""The steps of a machine's firmware and of its iPXE: DHCP, port 4011, TFTP, and the requests of boot programs."""

import contextlib
import ctypes
import socket
import struct
import time

from support import dhcpv6_wire as dhcpv6
from support import firmware_tftp as tftp
from support.dhcp_wire import ACK, DISCOVER, OFFER, REQUEST, Client, Message, request
from support.firmware import (IPXE_LINK, IPXE_START, PORT_4011_WAITS, SOLICIT_TIMES, TFTP_TRIES, TFTP_WAIT, UEFI_HTTP, ipxe_of)
from support.ipxe_script import Script
from support.lan import socket_in

SO_ATTACH_FILTER = 26
REQUEST_TRIES = 4
LATE = 20.0  # seconds that a healthy machine waits in vain for its offers before the staging counts as failed
PROGRAM_PAUSE = 1.0  # from UEFI's reply of port 4011 to its TFTP request (ovmf-2025-pxe-x64.pcap)


class StagingFailed(Exception):
    """The machine did not see what the stall needs: a fault of the test's network or of the server, and no stall."""


class Offers(list):
    """The replies to a DISCOVER."""

    def __init__(self, server, replies):
        super().__init__(reply for reply in replies if reply.kind == OFFER)
        self.server = server

    @property
    def address(self):
        """The first offer with an address, or None."""
        return next((offer for offer in self if offer.yiaddr != "0.0.0.0"), None)

    @property
    def boot(self):
        """The server's own offer, or None."""
        return next((offer for offer in self if offer.source == self.server), None)


class FirmwareSocket(Client):
    """A client's interface that queues the DHCP replies to its own MAC address only."""

    def __init__(self, space, mac, interface):
        super().__init__(space, mac, interface)
        program = [(0x28, 0, 0, 12), (0x15, 0, 7, 0x0800),  # EtherType IPv4
                   (0x30, 0, 0, 23), (0x15, 0, 5, 17),  # UDP
                   (0x28, 0, 0, 36), (0x15, 0, 3, 68),  # to the port of clients; the IP header has no options
                   (0x20, 0, 0, 72), (0x15, 0, 1, int.from_bytes(self.mac[2:], "big")),  # the end of chaddr
                   (0x06, 0, 0, 0xffff), (0x06, 0, 0, 0)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in program))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


class FirmwareSteps:
    """Methods of StagedMachine. Those that return what they received raise StagingFailed if it does not come."""

    # DHCP.

    def _dhcp(self):
        if self.dhcp is None:
            self.dhcp = self.keep(FirmwareSocket(self.space, self.mac, self.interface))
        return self.dhcp

    def discover(self, tries=1, first=0, identity=None):
        """Broadcasts DISCOVERs of one number, at the times of the firmware; returns the offers to all of them.

        `first` is the number of the first one: the ones before it were lost."""
        identity, client, replies = identity or self.firmware, self._dhcp(), []
        self.begin()
        begun = time.monotonic() - identity.times[first]
        for number in range(first, first + tries):
            self.wait_until(begun + identity.times[number])
            client.send(DISCOVER, identity.options(self.mac, self.uuid), flags=identity.flags, secs=identity.secs(number),
                        is_repeated=number > first)
            is_last = number == first + tries - 1
            replies += client.replies(identity.window if is_last else identity.times[number + 1] - identity.times[number])
        offers = Offers(self.server, replies)
        self.note(f"DISCOVER sent {tries} times; offers of {sorted({offer.source for offer in offers})}")
        return offers

    def find_offers(self, identity=None, needs_boot=True):
        """Broadcasts DISCOVERs until an address and a boot file were offered, like firmware that boots in the end."""
        identity, client, replies = identity or self.firmware, self._dhcp(), []
        self.begin()
        begun = time.monotonic()
        for number, at in enumerate(identity.times):
            self.wait_until(begun + at)
            client.send(DISCOVER, identity.options(self.mac, self.uuid), flags=identity.flags, secs=identity.secs(number), is_repeated=number > 0)
            if identity.is_ipxe:  # it goes on as soon as it has both
                gap = identity.times[number + 1] - at if number + 1 < len(identity.times) else LATE
                replies += client.replies(gap, lambda found: both(Offers(self.server, replies + found), needs_boot))
            else:
                replies += client.replies(identity.window)
            offers = Offers(self.server, replies)
            if both(offers, needs_boot):
                return offers
        raise StagingFailed(f"{self.name}: offers {[(offer.source, offer.yiaddr, offer.file) for offer in offers]}")

    def request(self, offers, identity=None):
        """Takes the offered address, and waits for the server's word."""
        identity, client, offer = identity or self.firmware, self._dhcp(), offers.address
        if offer is None:
            raise StagingFailed(f"{self.name}: nobody offers an address: {offers}")
        taken = [(54, offer.options[54]), (50, socket.inet_aton(offer.yiaddr))]
        client.xid = int.from_bytes(offer.xid, "big")
        for number in range(REQUEST_TRIES):
            client.send(REQUEST, identity.options(self.mac, self.uuid, taken), flags=identity.flags, secs=identity.secs(0, REQUEST), is_repeated=True)
            answers = client.replies(4, lambda found: any(reply.kind == ACK for reply in found))
            if any(reply.kind == ACK for reply in answers):
                self.take(offer.yiaddr)
                return offer.yiaddr
        raise StagingFailed(f"{self.name}: no DHCPACK of {offer.source}")

    def ask_4011(self, tries=len(PORT_4011_WAITS), server=None):
        """Asks for the boot file on port 4011 as EDK2 does: another number, `secs` counts. Returns the reply, or None."""
        server = server or self.server
        sock = self.keep(socket_in(self.space, socket.AF_INET, socket.SOCK_DGRAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address, 4011))
        xid = (self._dhcp().xid * 7 + 1) & 0xffffffff
        for number in range(tries):
            body = request(REQUEST, self.mac, self.firmware.options(self.mac, self.uuid), ciaddr=self.address, xid=xid, secs=number)
            sock.settimeout(PORT_4011_WAITS[number])
            try:
                sock.sendto(body, (server, 4011))
                return Message(*sock.recvfrom(4096))
            except OSError as error:
                self.note(f"port 4011 of {server}, request {number + 1}: {error!r}")
        return None

    # The boot program.

    def boot_firmware(self):
        """Boots up to the boot program, which is then in memory; returns its file name."""
        file = self.name_program()
        if self.firmware.is_ipxe:
            return file
        self.probe(file)
        self.fetch(file)
        return file

    def name_program(self):
        """Does the firmware's DHCP; returns the name of the boot file."""
        self.reset()
        offers = self.find_offers()
        self.request(offers)
        boot = offers.boot
        # EDK2 takes the file of an offer with discovery control 8; else it asks on port 4011 (boot-facts 3).
        if self.firmware.is_ipxe or self.firmware is UEFI_HTTP or 43 in boot.options:
            return boot.file
        reply = self.ask_4011()
        if reply is None or not reply.file:
            raise StagingFailed(f"{self.name}: port 4011 names no file: {reply}")
        self.wait(PROGRAM_PAUSE)
        return reply.file

    def probe(self, file, tries=TFTP_TRIES, server=None):
        """Asks for the size of a file, and ends the transfer; returns the size, or None without an answer."""
        transfer = tftp.Transfer(self, server or self.server)
        try:
            reply = transfer.request(file, (("tsize", 0), *tftp.UEFI_OPTIONS), tries)
        except tftp.NoAnswer as error:
            self.note(error)
            return None
        transfer.abort()
        return tftp.size_of(reply)

    def fetch(self, file, stop_after=None, error=None, options=tftp.UEFI_OPTIONS, pause=0.0, tries=TFTP_TRIES, server=None):
        """Reads a file over TFTP; returns its octets. `error` is the code and the text that the transfer is broken off with."""
        transfer = tftp.Transfer(self, server or self.server)
        chosen = dict(options)
        first = transfer.request(file, options, tries)
        data = transfer.read_blocks(first, chosen.get("blksize", 512), chosen.get("windowsize", 1), stop_after, pause)
        if error:
            transfer.abort(*error)
        self.note(f"TFTP {file}: {len(data)} octets")
        return data

    def ask_and_close(self, file, tries=2):
        """Asks for a file from a port that is closed by then: the machine's kernel answers with 'port unreachable'."""
        port = 0
        for number in range(tries):
            self.wait(TFTP_WAIT if number else 0)
            with contextlib.closing(socket_in(self.space, socket.AF_INET, socket.SOCK_DGRAM)) as sock:
                sock.bind((self.address, port))
                port = sock.getsockname()[1]
                sock.sendto(b"\0\1" + file.encode() + b"\0octet\0tsize\x000\0blksize\x001468\0", (self.server, tftp.PORT))

    # iPXE.

    def start_ipxe(self):
        """Lets iPXE start."""
        self.wait(IPXE_START)

    def autoexec(self):
        """Asks for the script next to the boot program, as iPXE's EFI programs do; returns it, or None."""
        try:
            text = self.fetch(f"{self.dashed}/autoexec.ipxe", options=tftp.IPXE_OPTIONS)
        except (tftp.NoAnswer, tftp.TransferError) as error:
            self.note(f"autoexec.ipxe: {error}")
            return None
        return Script(text.decode())

    def ipxe_dhcp(self):
        """Does iPXE's DHCP; returns the URL of its script."""
        identity = self.firmware if self.firmware.is_ipxe else ipxe_of(self.firmware)
        offers = self.find_offers(identity)
        self.request(offers, identity)
        return offers.boot.file

    def boot_ipxe(self):
        """Boots iPXE up to its script over HTTP; returns the script."""
        if not self.firmware.is_ipxe:
            self.start_ipxe()
            self.wait(IPXE_LINK)
            self.ipxe_dhcp()
        return self.script()

    def script(self, query=""):
        """Fetches the machine's script over HTTP."""
        status, body = self.http("GET", f"/ipxe?mac={self.dashed}{query}", agent="iPXE/1.21.1+ (g83449)")
        if status != 200:
            raise StagingFailed(f"{self.name}: script: {status} {body[:200]!r}")
        return Script(body.decode())

    # IPv6.

    def solicit(self, tries=len(SOLICIT_TIMES)):
        """Broadcasts DHCPv6 SOLICITs as UEFI's PXEv6 does (RFC 8415, RFC 5970)."""
        self.begin()
        wire = self.keep(dhcpv6.wire(self.space, self.interface))
        begun, transaction = time.monotonic(), dhcpv6.octets(self.mac)[3:]
        for at in SOLICIT_TIMES[:tries]:
            self.wait_until(begun + at)
            message = dhcpv6.message(dhcpv6.SOLICIT, dhcpv6.by_uuid(self.uuid), self.firmware.architecture, self.firmware.vendor_class,
                                     transaction, int(at * 100))
            wire.send(dhcpv6.frame(self.mac, dhcpv6.eui64(self.mac), message))
        self.note(f"DHCPv6 SOLICIT sent {tries} times")


def both(offers, needs_boot=True):
    """Returns whether an address and, if it is needed, a boot file are offered."""
    return offers.address is not None and (not needs_boot or offers.boot is not None)
