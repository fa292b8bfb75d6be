"""A network interface whose hardware type is InfiniBand. The test has its other end, and sends and receives frames.

The frames have Ethernet headers, which a server in user space does not see.
"""

import fcntl
import os
import select
import socket
import struct
import time

from support.dhcp_wire import Message, checksum, request
from support.lan import entered
from support.waiting import slowness

TUNSETIFF, TUNSETLINK = 0x400454CA, 0x400454CD
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
ARPHRD_INFINIBAND = 32
ETHERNET_HEADER = b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x08\0"


class Fabric:
    """The fabric that the interface `ib0` of a namespace is connected to."""

    def __init__(self, lan, space, address):
        with entered(space):
            self.wire = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self.wire, TUNSETIFF, struct.pack("16sH22x", b"ib0", IFF_TAP | IFF_NO_PI))
            fcntl.ioctl(self.wire, TUNSETLINK, ARPHRD_INFINIBAND)
        lan.ip(space, "address", "add", f"{address}/24", "dev", "ib0")
        lan.ip(space, "link", "set", "ib0", "up")

    def close(self):
        os.close(self.wire)

    def ask(self, kind, options, mac="00:00:00:00:00:00", wait=3, **header):
        """Broadcasts a client's message; returns the reply and the address that it was sent to."""
        body = request(kind, mac, options, **header)
        udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
        os.write(self.wire, ETHERNET_HEADER + ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:] + udp)
        end = time.monotonic() + wait * slowness()
        while (left := end - time.monotonic()) > 0 and select.select([self.wire], [], [], left)[0]:
            packet = os.read(self.wire, 4096)[len(ETHERNET_HEADER):]
            udp = (packet[0] & 15) * 4
            if packet[0] >> 4 == 4 and packet[9] == 17 and packet[udp + 2:udp + 4] == b"\0\x44":
                return Message(packet[udp + 8:], socket.inet_ntoa(packet[12:16])), socket.inet_ntoa(packet[16:20])
        return None, None
