"""DHCP messages that the tests write and read themselves, for cases that no real client produces."""

import fcntl
import os
import select
import socket
import struct
import time

from support.lan import socket_in
from support.waiting import slowness

COOKIE = bytes([99, 130, 83, 99])
ETH_P_ALL = 3
SIOCGIFINDEX = 0x8933
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = 1, 2, 3, 4, 5, 6, 7, 8
BROADCAST = 0x8000
ETHERNET, INFINIBAND, INFINIBAND_WITHOUT_ADDRESS = (1, 6), (32, 6), (32, 0)


def checksum(data):
    """Computes the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Message:
    """A parsed reply."""

    def __init__(self, data, source=None):
        self.data, self.source = data, source
        self.op, self.hardware, self.xid, self.flags = data[0], tuple(data[1:3]), data[4:8], data[10:12]
        self.ciaddr, self.yiaddr, self.siaddr, self.giaddr = (
            socket.inet_ntoa(data[at:at + 4]) for at in (12, 16, 20, 24))
        self.chaddr = data[28:34]
        self.file = data[108:236].split(b"\0")[0].decode()
        self.options = {}
        rest = data[240:]
        while rest and rest[0] != 255:
            if rest[0] == 0:
                rest = rest[1:]
                continue
            code, length = rest[0], rest[1]
            self.options[code] = self.options.get(code, b"") + rest[2:2 + length]
            rest = rest[2 + length:]
        self.kind = self.options.get(53, b"\0")[0]

    def c_string(self, code):
        """Returns an option as a ROM reads it that takes it for a C string: up to the next zero octet of the packet."""
        at = 240
        while self.data[at] not in (code, 255):
            at += 1 if self.data[at] == 0 else 2 + self.data[at + 1]
        return self.data[at + 2:].split(b"\0")[0]


def request(kind, mac, options, ciaddr="0.0.0.0", flags=0, giaddr="0.0.0.0", xid=0x0b007, hardware=ETHERNET, sname=b"", file=b"", secs=0):
    """Builds a client's message. `hardware` is its type and the length of its address, which is left out if that is 0."""
    body = bytes([1, *hardware, 0]) + xid.to_bytes(4, "big") + secs.to_bytes(2, "big") + flags.to_bytes(2, "big")
    body += socket.inet_aton(ciaddr) + bytes(8) + socket.inet_aton(giaddr)
    body += bytes.fromhex(mac.replace(":", ""))[:hardware[1]].ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    body += COOKIE + bytes([53, 1, kind])
    for code, value in options:
        body += bytes([code, len(value)]) + value
    return body + b"\xff"


class Client:
    """A client's network interface: it sends frames and sees every reply on the wire."""

    def __init__(self, space, mac, interface="lan0"):
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.socket = socket_in(space, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind((interface, 0))
        # The client's hardware address may differ from the interface's: promiscuous mode receives both.
        membership = struct.pack("iHH8s", interface_index(space, interface), PACKET_MR_PROMISC, 0, b"")
        self.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        self.xid = int.from_bytes(os.urandom(4), "big")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, kind, options, ciaddr="0.0.0.0", flags=0, source=("0.0.0.0", 68), to=("255.255.255.255", 67),
             to_mac=b"\xff" * 6, is_repeated=False, **header):
        """Sends a message with a transaction number of its own, or with that of the one before."""
        if not is_repeated:
            self.xid = (self.xid + 1) & 0xffffffff
        body = request(kind, self.mac.hex(":"), options, ciaddr, flags, xid=self.xid, **header)
        udp = struct.pack("!HHHH", source[1], to[1], 8 + len(body), 0) + body
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
        ip += socket.inet_aton(source[0]) + socket.inet_aton(to[0])
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        self.socket.send(to_mac + self.mac + b"\x08\x00" + ip + udp)

    def replies(self, wait=1.5, enough=None):
        """Collects the replies to the last message until there are enough, or for `wait` seconds."""
        found, end = [], time.monotonic() + (wait * slowness() if enough else wait)
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                break
            frame = self.socket.recv(2048)
            if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[:6] not in (self.mac, b"\xff" * 6):
                continue
            header = (frame[14] & 15) * 4
            udp = frame[14 + header:]
            data = udp[8:struct.unpack("!H", udp[4:6])[0]]
            if len(data) < 240 or data[0] != 2 or data[4:8] != self.xid.to_bytes(4, "big"):
                continue
            pseudo = frame[26:34] + b"\0\x11" + udp[4:6]
            if udp[6:8] != b"\0\0" and checksum(pseudo + udp[:len(data) + 8]):
                continue  # A veth interface never completes a partial checksum, so a wrong one is the server's.
            found.append(Message(data, socket.inet_ntoa(frame[26:30])))
            if enough and enough(found):
                break
        return found

    def reply(self, wait=1.5):
        """Returns the first reply to the last message, or None."""
        return next(iter(self.replies(wait, enough=len)), None)


def interface_index(space, interface):
    with socket_in(space, socket.AF_INET, socket.SOCK_DGRAM) as probe:
        asked = struct.pack("16si12x", interface.encode(), 0)
        return struct.unpack("16si12x", fcntl.ioctl(probe, SIOCGIFINDEX, asked))[1]


def pxe(architecture=7, uuid=bytes(range(16))):
    """Returns the options that PXE firmware sends."""
    return [(60, f"PXEClient:Arch:{architecture:05}:UNDI:003000".encode()), (93, struct.pack("!H", architecture)),
            (94, b"\x01\x03\x00"), (97, b"\0" + uuid), (55, bytes([1, 3, 6, 43, 60, 66, 67]))]


def classless_routes(option):
    """Returns the routes of option 121 (RFC 3442) as pairs of network and router."""
    routes = []
    while option:
        octets = (option[0] + 7) // 8
        network, router = option[1:1 + octets].ljust(4, b"\0"), option[1 + octets:5 + octets]
        routes.append((f"{socket.inet_ntoa(network)}/{option[0]}", socket.inet_ntoa(router)))
        option = option[5 + octets:]
    return routes


def captured_requests(path):
    """Yields the requests in a capture file as pairs of port and payload."""
    data, at = path.read_bytes(), 24
    while at + 16 <= len(data):
        length = struct.unpack("<I", data[at + 8:at + 12])[0]
        frame, at = data[at + 16:at + 16 + length], at + 16 + length
        if frame[12:14] == b"\x08\x00" and frame[23] == 17:
            udp = frame[14 + (frame[14] & 15) * 4:]
            port = struct.unpack("!H", udp[2:4])[0]
            if port in (67, 69, 4011):
                yield port, udp[8:]
