"""A simulated PXE client that sends the DHCP packets of a boot ROM, for clients that QEMU has no ROM of."""

import ctypes
import random
import socket
import struct
import threading
import time

from . import speed
from .process import LabError

COOKIE = b"\x63\x82\x53\x63"
CLONE_NEWNET = 0x40000000
RESEND_INTERVAL = 2.0  # seconds
_libc = ctypes.CDLL(None, use_errno=True)


def socket_in(space, port):
    """Opens a UDP socket on lan0 of a namespace, in a thread of its own: setns changes the calling thread."""
    made = []

    def enter_and_open():
        try:
            with open(f"/var/run/netns/{space}") as handle:
                if _libc.setns(handle.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {space}")
            made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter_and_open)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise LabError(f"a socket in {space}: {made[0]}")
    made[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made[0].setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made[0].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lan0")
    made[0].bind(("", port))
    return made[0]


def packet(mac, kind, options, xid=None, ciaddr="0.0.0.0", broadcast=True):
    """Builds a BOOTREQUEST; `options` maps codes to bytes. Returns the transaction number and the packet."""
    xid = random.getrandbits(32) if xid is None else xid
    header = struct.pack("!BBBBIHH4s12x16s192x", 1, 1, 6, 0, xid, 0, 0x8000 if broadcast else 0,
                         socket.inet_aton(ciaddr), bytes.fromhex(mac.replace(":", "")))
    tail = b"".join(bytes([code, len(value)]) + value for code, value in {53: bytes([kind]), **options}.items())
    return xid, (header + COOKIE + tail + b"\xff").ljust(300, b"\0")


class Reply:
    """A parsed BOOTREPLY."""

    def __init__(self, raw, sender):
        self.sender = sender
        self.xid = struct.unpack_from("!I", raw, 4)[0]
        self.yiaddr, self.siaddr = socket.inet_ntoa(raw[16:20]), socket.inet_ntoa(raw[20:24])
        self.options, at = {}, 240
        while at < len(raw) and raw[at] != 255:
            if raw[at] == 0:
                at += 1
                continue
            self.options[raw[at]] = raw[at + 2:at + 2 + raw[at + 1]]
            at += 2 + raw[at + 1]
        self.file = (raw[108:236].split(b"\0")[0] or self.options.get(67, b"").rstrip(b"\0")).decode()

    def __repr__(self):
        return f"<from {self.sender} yiaddr {self.yiaddr} file {self.file!r} options {sorted(self.options)}>"


def rom(architecture, mac):
    """Returns the options that a PXE ROM of that architecture sends."""
    return {55: bytes([1, 3, 43, 54, 60, 66, 67, 97]), 57: struct.pack("!H", 1472),
            60: f"PXEClient:Arch:{architecture:05}:UNDI:003000".encode(), 93: struct.pack("!H", architecture),
            94: bytes([1, 3, 0]), 97: b"\0" + bytes.fromhex(mac.replace(":", "")) * 2 + b"\1\2\3\4"}


class Client:
    """One client on the LAN, in a namespace of its own without an address."""

    def __init__(self, network, mac):
        self.network, self.mac = network, mac
        self.space = network.add_client()
        network.ip(self.space, "link", "set", "lan0", "address", mac)
        self.socket = socket_in(self.space, 68)

    def broadcast(self, options, kind=1):
        """Broadcasts a DISCOVER; returns its transaction number."""
        xid, self._sent = packet(self.mac, kind, options)
        self._send()
        return xid

    def _send(self):
        self.socket.sendto(self._sent, ("255.255.255.255", 67))

    def replies(self, enough):
        """Collects replies until `enough(replies)` holds; sends the request again, like a ROM."""
        return collect(self.socket, self._send, enough)

    def take_address(self, address):
        self.network.ip(self.space, "address", "add", f"{address}/24", "dev", "lan0")

    def close(self):
        self.socket.close()


def collect(source, send_again, enough, limit=15.0):
    """Reads replies from a socket until `enough(replies)` holds; sends again every `RESEND_INTERVAL` seconds."""
    replies, deadline = [], speed.deadline(limit)
    while not enough(replies):
        if time.monotonic() > deadline:
            raise LabError(f"not all replies within {limit} s: {replies}")
        source.settimeout(RESEND_INTERVAL)
        try:
            raw, sender = source.recvfrom(4096)
        except TimeoutError:
            send_again()  # an interface that was just connected may lose its first packet
            continue
        if len(raw) >= 240 and raw[236:240] == COOKIE:
            replies.append(Reply(raw, sender[0]))
    return replies
