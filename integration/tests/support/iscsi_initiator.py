"""A small iSCSI initiator, for requests that no other client here can send: MMC commands, data digests, resets."""

import hashlib
import socket
import struct

from support.waiting import slowness

NO_TAG = 0xFFFFFFFF
TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    TABLE.append(number)


def crc32c(data):
    """Computes the digest of a PDU's header or data (RFC 7143, 13.1)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return struct.pack("<I", value ^ 0xFFFFFFFF)


class Refused(Exception):
    """A login failed. The arguments are its status class and detail in hexadecimal, and the keys of the response."""


class Ended(Exception):
    """The target closed the connection."""


class Initiator:
    """A session that is logged in."""

    def __init__(self, port, target, keys=(), isid=1, name="iqn.2026-11.org.bootlatch:test", discovery=False, source=None,
                 address="127.0.0.1", limit=10):
        self.stream = socket.create_connection((address, port), limit * slowness(), source and (source, 0))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.isid = b"\x80" + isid.to_bytes(5, "big")
        self.command, self.tag, self.header_digest, self.data_digest = 1, 0, False, False
        kind = ["SessionType=Discovery"] if discovery else ["SessionType=Normal", f"TargetName={target}"]
        self.answers = self.login(0x87, [f"InitiatorName={name}", *kind, *keys])
        self.header_digest = self.answers.get("HeaderDigest") == "CRC32C"
        self.data_digest = self.answers.get("DataDigest") == "CRC32C"

    def login(self, flags, keys):
        """Sends one login request; returns the keys of the response."""
        self.send(0x43, flags, "".join(key + "\0" for key in keys).encode(), lun=self.isid + b"\0\0")
        header, data = self.receive()
        if header[36:38] != b"\0\0":
            raise Refused(header[36:38].hex(), data)
        return dict(pair.split("=", 1) for pair in data.decode().split("\0") if pair)

    def send(self, opcode, flags, data=b"", lun=bytes(8), tag=0, words=()):
        header = bytearray(48)
        header[0], header[1] = opcode, flags
        header[5:8] = len(data).to_bytes(3, "big")
        header[8:16] = lun
        header[16:20] = tag.to_bytes(4, "big")
        header[24:28] = self.command.to_bytes(4, "big")
        for at, word in words:
            header[at:at + len(word)] = word
        padded = data + bytes(-len(data) % 4)
        wire = bytes(header) + (crc32c(header) if self.header_digest else b"")
        self.stream.sendall(wire + padded + (crc32c(padded) if self.data_digest and data else b""))

    def receive_exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            if not piece:
                raise Ended()
            data += piece
        return data

    def receive(self):
        """Receives a PDU; returns its header and its data."""
        header = self.receive_exactly(48)
        if self.header_digest:
            assert self.receive_exactly(4) == crc32c(header), "the header digest is right"
        length = int.from_bytes(header[5:8], "big")
        padded = self.receive_exactly(length + -length % 4)
        if self.data_digest and length:
            assert self.receive_exactly(4) == crc32c(padded), "the data digest is right"
        return header, padded[:length]

    def scsi(self, cdb, lun=0, room=65536):
        """Runs a command that reads; returns its data and its sense (None if the status is GOOD)."""
        self.tag += 1
        command = bytes(cdb) + bytes(16 - len(cdb))
        self.send(0x01, 0xC1, lun=bytes([0, lun, 0, 0, 0, 0, 0, 0]), tag=self.tag,
                  words=[(20, room.to_bytes(4, "big")), (32, command)])
        self.command += 1
        data = b""
        while True:
            header, piece = self.receive()
            assert header[16:20] == self.tag.to_bytes(4, "big"), f"the response belongs to the task: {header.hex()}"
            if header[0] == 0x25:
                assert int.from_bytes(header[40:44], "big") == len(data), "Data-In PDUs arrive in order"
                data += piece
                if not header[1] & 1:
                    continue
                return data, None
            assert header[0] == 0x21, f"the response is a SCSI Response: {header[0]:02x}"
            if header[3] == 0:
                return data, None
            sense = piece[2:]
            return data, (sense[2] & 15, sense[12], sense[13])

    def good(self, cdb, lun=0, room=65536):
        """Runs a command that must succeed; returns its data."""
        data, sense = self.scsi(cdb, lun, room)
        assert sense is None, f"{bytes(cdb).hex()}: sense {sense}"
        return data

    def send_targets(self):
        self.send(0x04, 0x80, b"SendTargets=All\0", tag=9, words=[(20, NO_TAG.to_bytes(4, "big"))])
        self.command += 1
        return self.receive()[1].decode().split("\0")

    def logout(self):
        """Ends the session and closes the connection."""
        self.send(0x46, 0x80, tag=99)
        while True:
            header, _ = self.receive()
            if header[0] == 0x26:
                self.stream.close()
                return


def refusal(port, target, *arguments, **options):
    """Logs in where that must fail; returns the status of the failure, and None if the login succeeds."""
    try:
        Initiator(port, target, *arguments, **options).logout()
    except Refused as refused:
        return refused
    return None


def chap_response(number, secret, challenge):
    """Computes the response to a CHAP challenge with MD5 (RFC 1994)."""
    return "0x" + hashlib.md5(bytes([number]) + secret + challenge).hexdigest()
