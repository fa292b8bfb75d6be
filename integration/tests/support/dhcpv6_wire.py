"""DHCPv6 as boot firmware sends it (RFC 8415, RFC 5970; fixtures/captures/ovmf-2022-pxe6-x64.pcap), in whole frames."""

import socket
import struct

from support.dhcp_wire import checksum
from support.lan import socket_in

SOLICIT, REQUEST, RENEW = 1, 3, 5
ALL_SERVERS = bytes.fromhex("ff020000000000000000000000010002")
GROUP_MAC = bytes.fromhex("333300010002")
IPV6 = 0x86dd


def octets(mac):
    return bytes.fromhex(mac.replace(":", ""))


def eui64(mac):
    """Returns the link-local address that an interface forms of its MAC address."""
    raw = octets(mac)
    return b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2, raw[1], raw[2], 0xff, 0xfe, *raw[3:]])


def private():
    """Returns a link-local address that does not tell the MAC address."""
    return b"\xfe\x80" + bytes(6) + bytes.fromhex("3c1fd4a9e2b87765")


def by_uuid(uuid):
    return b"\0\4" + uuid


def by_mac(mac):
    return b"\0\3\0\1" + octets(mac)


def by_mac_and_time(mac):
    return b"\0\1\0\1" + bytes(4) + octets(mac)


def vendor_class(text):
    return struct.pack("!IH", 343, len(text)) + text


def message(kind, duid, architecture=7, vendor=b"PXEClient:Arch:00007:UNDI:003000", transaction=b"\1\2\3", elapsed=0, more=()):
    """Returns a message of firmware, with its options in OVMF's order."""
    options = [(1, duid), (8, struct.pack("!H", elapsed)), (3, bytes(4) + b"\xff" * 8), (6, bytes.fromhex("003b003c00170010")), (62, b"\1\3\0"),
               (61, struct.pack("!H", architecture)), (16, vendor_class(vendor)), *more]
    return bytes([kind]) + transaction + b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


def frame(mac, source, payload):
    """Returns the Ethernet frame of a message to all DHCPv6 servers."""
    udp = struct.pack("!HHHH", 546, 547, 8 + len(payload), 0) + payload
    total = checksum(source + ALL_SERVERS + struct.pack("!II", len(udp), 17) + udp)
    udp = udp[:6] + struct.pack("!H", total) + udp[8:]
    header = struct.pack("!IHBB", 6 << 28, len(udp), 17, 1)
    return GROUP_MAC + octets(mac) + struct.pack("!H", IPV6) + header + source + ALL_SERVERS + udp


def wire(space, interface):
    """Returns a socket that sends and receives frames of IPv6 on an interface in a namespace."""
    opened = socket_in(space, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV6))
    opened.bind((interface, 0))
    return opened
