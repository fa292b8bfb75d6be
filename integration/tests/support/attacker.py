"""A machine that no host knows, which sends forged DHCP messages and TFTP requests in another machine's name."""

import socket
import struct

from support.dhcp_wire import Client, Message, checksum, request
from support.lan import socket_in
from support.provisioned_lan import OURS, Machine

STRANGER = "52:54:00:66:66:66"


class Attacker(Machine):
    def __init__(self, lan, bridge, *addresses, router=None):
        super().__init__(lan, f"attacker{next(lan.count)}", bridge, *addresses, router=router, mac=STRANGER)
        self.sockets = {}

    def socket_at(self, address, port=67):
        """Returns the UDP socket that is bound to one of the attacker's addresses."""
        if (address, port) not in self.sockets:
            sock = socket_in(self.space, socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))
            self.sockets[address, port] = sock
        return self.sockets[address, port]

    def dhcp(self, kind, victim, options, source, giaddr="0.0.0.0", ciaddr="0.0.0.0", wait=0.7, port=67):
        """Sends a unicast message with a victim's chaddr, and returns the server's reply, or None."""
        sock = self.socket_at(source, port)
        sock.settimeout(wait)
        sock.sendto(request(kind, victim, options, ciaddr=ciaddr, giaddr=giaddr), (OURS, 67))
        try:
            return Message(*sock.recvfrom(4096))
        except TimeoutError:
            return None

    def broadcast(self, kind, victim, options, ciaddr="0.0.0.0", wait=0.7):
        """Broadcasts a message with a victim's chaddr from 0.0.0.0 on the attacker's link."""
        with Client(self.space, victim) as client:
            client.send(kind, options, ciaddr=ciaddr, flags=0x8000)
            return client.replies(wait=wait)

    def spoof(self, source, port, payload, gateway_mac, to_port=69):
        """Sends one UDP datagram to the server with a forged source address, in a frame to `gateway_mac`."""
        udp = struct.pack("!HHHH", port, to_port, 8 + len(payload), 0) + payload
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + socket.inet_aton(source) + socket.inet_aton(OURS)
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        with socket_in(self.space, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
            wire.bind(("lan0", 0))
            wire.send(bytes.fromhex(gateway_mac.replace(":", "") + self.mac.replace(":", "")) + b"\x08\x00" + ip + udp)

    def close(self):
        for sock in self.sockets.values():
            sock.close()


def read_request(name, *options):
    """Builds a TFTP read request in octet mode; options are alternating names and values."""
    words = [name, "octet", *options]
    return b"\0\1" + b"".join(word.encode() + b"\0" for word in words)
