"""A LAN's own DHCP server: it gives addresses, and misbehaves towards single machines as a test asks."""

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field

from support.dhcp_wire import ACK, COOKIE, DISCOVER, OFFER, REQUEST
from support.lan import socket_in

SO_BINDTODEVICE = socket.SO_BINDTODEVICE
LEASE_TIME = 3600


@dataclass
class Treatment:
    """How the server treats a machine: `delay` seconds late, not at all, or with a boot file and further options."""

    delay: float = 0.0
    is_mute: bool = False
    file: str = ""
    next_server: str = "0.0.0.0"
    options: list = field(default_factory=list)


class AddressServer(threading.Thread):
    """Gives each MAC address in `leases` its address, and others one of `pool`. Replies are broadcast.

    `treatments` holds that of single machines by MAC address; `usual` is that of all others."""

    def __init__(self, space, address, netmask="255.255.255.0", router=None, interface="lan0"):
        super().__init__(daemon=True)
        self.address, self.netmask, self.router = address, netmask, router or address
        self.leases, self.treatments, self.usual = {}, {}, Treatment()
        self.pool = [f"{address.rsplit('.', 1)[0]}.{number}" for number in range(240, 250)]
        self.socket = socket_in(space, socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode())
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("", 67))
        self.is_closed = False
        self.start()

    def treatment(self, mac):
        return self.treatments.get(mac, self.usual)

    def run(self):
        while True:
            try:
                data, source = self.socket.recvfrom(4096)
            except OSError:
                return  # closed
            if self.is_closed:
                return
            if len(data) >= 240 and data[0] == 1 and data[236:240] == COOKIE:
                self.hear(data, source)

    def hear(self, data, source):
        options = parsed(data[240:])
        kind, mac = options.get(53, b"\0")[0], data[28:34].hex(":")
        how = self.treatment(mac)
        other = options.get(54, socket.inet_aton(self.address)) != socket.inet_aton(self.address)
        if kind not in (DISCOVER, REQUEST) or how.is_mute or other:
            return
        address = self.leases.get(mac) or self.pool[int(mac[-2:], 16) % len(self.pool)]
        reply = self.reply(data, OFFER if kind == DISCOVER else ACK, address, how)
        if how.delay:
            timer = threading.Timer(how.delay, self.send, (reply,))
            timer.daemon = True
            timer.start()
        else:
            self.send(reply)

    def reply(self, asked, kind, address, how):
        options = [(53, bytes([kind])), (54, socket.inet_aton(self.address)), (51, struct.pack("!I", LEASE_TIME)),
                   (1, socket.inet_aton(self.netmask)), (3, socket.inet_aton(self.router)), *how.options]
        return (b"\x02" + asked[1:8] + bytes(2) + asked[10:12] + bytes(4) + socket.inet_aton(address) + socket.inet_aton(how.next_server)
                + bytes(4) + asked[28:44] + bytes(64) + how.file.encode().ljust(128, b"\0") + COOKIE
                + b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\xff")

    def send(self, reply):
        with contextlib.suppress(OSError):  # closed meanwhile
            self.socket.sendto(reply, ("255.255.255.255", 68))

    def close(self):
        self.is_closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def parsed(data):
    """Returns DHCP options by code."""
    options, at = {}, 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        options[data[at]] = data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return options
