"""TFTP as boot firmware speaks it: a request for the size, then the file in windows, with the firmware's own time limits."""

import socket

from support.firmware import TFTP_TRIES, TFTP_WAIT
from support.lan import socket_in

PORT = 69
UEFI_OPTIONS = (("blksize", 1468), ("windowsize", 4))
IPXE_OPTIONS = (("blksize", 1432), ("tsize", 0))
READ_REQUEST, DATA, ACKNOWLEDGEMENT, ERROR, OPTIONS = 1, 3, 4, 5, 6


class NoAnswer(Exception):
    """The server did not answer within the firmware's time."""


class TransferError(Exception):
    """The server answered with an error, whose text is the argument."""


class Transfer:
    """One TFTP transfer, over a socket of its own. The socket stays open: a machine that is dead sends no ICMP."""

    def __init__(self, machine, server):
        self.machine, self.server = machine, server
        self.socket = machine.keep(socket_in(machine.space, socket.AF_INET, socket.SOCK_DGRAM))
        self.peer = None
        self.size = 0

    def request(self, name, options=(), tries=TFTP_TRIES, wait=TFTP_WAIT):
        """Sends a read request, again from the same port after each wait; returns the first reply."""
        words = [name.encode(), b"octet", *(str(word).encode() for pair in options for word in pair)]
        packet = READ_REQUEST.to_bytes(2, "big") + b"\0".join(words) + b"\0"
        for _ in range(tries):
            self.send(packet, (self.server, PORT))
            if reply := self.receive(wait):
                return reply
        raise NoAnswer(f"TFTP {name}: no answer to {tries} requests")

    def send(self, packet, to=None):
        try:
            self.socket.sendto(packet, to or self.peer)
        except OSError as error:  # a firewall of the test, or nobody answers ARP
            self.machine.note(f"TFTP packet not sent: {error}")

    def receive(self, wait):
        """Returns the next packet of the server, or None."""
        self.socket.settimeout(wait)
        try:
            packet, source = self.socket.recvfrom(70_000)
        except TimeoutError:
            return None
        except OSError as error:  # an ICMP error
            self.machine.note(f"TFTP: {error}")
            return None
        if self.peer not in (None, source):
            return self.receive(wait)
        self.peer = source
        if packet[:2] == ERROR.to_bytes(2, "big"):
            raise TransferError(packet[4:].rstrip(b"\0").decode(errors="replace"))
        return packet

    def acknowledge(self, block):
        self.send(ACKNOWLEDGEMENT.to_bytes(2, "big") + (block & 0xffff).to_bytes(2, "big"))

    def abort(self, code=0, text="User aborted the transfer"):
        self.send(ERROR.to_bytes(2, "big") + code.to_bytes(2, "big") + text.encode() + b"\0")

    def read_blocks(self, first, block, window, stop_after=None, pause=0.0):
        """Receives the blocks that follow the first reply; returns the data, which is incomplete after `stop_after` octets.

        `pause` is the time in seconds before each acknowledgement: a slow line."""
        data, acknowledged, packet = bytearray(), 0, first
        if packet[:2] == OPTIONS.to_bytes(2, "big"):
            self.acknowledge(0)
            packet = None
        while True:
            packet = packet or self.next_block(acknowledged)
            number, payload = int.from_bytes(packet[2:4], "big"), packet[4:]
            packet = None
            if number != (acknowledged + 1) & 0xffff:
                continue
            data, acknowledged = data + payload, acknowledged + 1
            is_last = len(payload) < block
            if stop_after and len(data) >= stop_after:
                return bytes(data)
            if is_last or acknowledged % window == 0:
                self.machine.wait(pause)
                self.acknowledge(acknowledged)
            if is_last:
                return bytes(data)

    def next_block(self, acknowledged):
        for _ in range(TFTP_TRIES):
            packet = self.receive(TFTP_WAIT)
            if packet:
                return packet
            self.acknowledge(acknowledged)
        raise NoAnswer(f"TFTP: no block after {acknowledged}")


def size_of(reply):
    """Returns the value of the option tsize in an OACK."""
    words = reply[2:].split(b"\0")
    return int(words[words.index(b"tsize") + 1]) if b"tsize" in words else None
