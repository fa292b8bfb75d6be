"""A TFTP client that reads one file in lockstep, as boot ROMs do (RFC 1350, 2348, 2349)."""

import socket

from support.waiting import slowness

BLOCK = 1408
TRIES = 4  # transmissions of a request or an acknowledgement


class TransferFailed(Exception):
    """The server refused the file or went silent."""


def read(address, name, wait=0.5):
    """Reads a file from port 69 and returns its bytes. `wait` is the time without a packet until the last one is sent again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait * slowness())
        request = b"\0\1" + b"\0".join([name.encode(), b"octet", b"tsize", b"0", b"blksize", str(BLOCK).encode(), b""])
        packet, peer = _exchange(sock, request, (address, 69), lambda packet: packet[:2] == b"\0\6")
        data, size = b"", BLOCK
        acknowledged = 0
        while size == BLOCK:
            wanted = (acknowledged + 1) & 0xFFFF
            packet, _ = _exchange(sock, b"\0\4" + acknowledged.to_bytes(2, "big"), peer,
                                  lambda packet: packet[:4] == b"\0\3" + wanted.to_bytes(2, "big"))
            data, size, acknowledged = data + packet[4:], len(packet) - 4, wanted
        sock.sendto(b"\0\4" + acknowledged.to_bytes(2, "big"), peer)
        return data


def read_first_block(sock, address, name):
    """Reads a file of less than 512 octets, whose name is given as octets, and returns its bytes."""
    sock.settimeout(0.5 * slowness())
    packet, peer = _exchange(sock, b"\0\1" + name + b"\0octet\0", (address, 69), lambda packet: packet[:4] == b"\0\3\0\1")
    sock.sendto(b"\0\4\0\1", peer)
    return packet[4:]


def _exchange(sock, packet, peer, is_wanted):
    """Sends a packet until the wanted one arrives; returns that one and its source."""
    for _ in range(TRIES):
        sock.sendto(packet, peer)
        try:
            while True:
                answer, source = sock.recvfrom(2048)
                if answer[:2] == b"\0\5":
                    raise TransferFailed(answer[4:].decode(errors="replace"))
                if is_wanted(answer):
                    return answer, source
        except TimeoutError:
            continue
    raise TransferFailed("no answer")
