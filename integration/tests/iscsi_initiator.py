"""A small iSCSI initiator for the tests: what no other client here can ask (MMC commands, data digests, resets)."""
import hashlib
import socket
import struct

NO_TAG = 0xFFFFFFFF
TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    TABLE.append(number)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return struct.pack("<I", value ^ 0xFFFFFFFF)


class Refused(Exception):
    """A login failed: its status class and detail."""


class Ended(Exception):
    """The target closed the connection."""


class Initiator:
    def __init__(self, port, target, keys=(), isid=1, name="iqn.2026-11.org.bootlatch:test", discovery=False, source=None):
        self.stream = socket.create_connection(("127.0.0.1", port), 10, source and (source, 0))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.isid = b"\x80" + isid.to_bytes(5, "big")
        self.command, self.tag, self.header_digest, self.data_digest = 1, 0, False, False
        kind = ["SessionType=Discovery"] if discovery else ["SessionType=Normal", f"TargetName={target}"]
        self.answers = self.login(0x87, [f"InitiatorName={name}", *kind, *keys])
        self.header_digest = self.answers.get("HeaderDigest") == "CRC32C"
        self.data_digest = self.answers.get("DataDigest") == "CRC32C"

    def login(self, flags, keys):
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

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            if not piece:
                raise Ended()
            data += piece
        return data

    def receive(self):
        header = self.exactly(48)
        if self.header_digest:
            assert self.exactly(4) == crc32c(header), "header digest"
        length = int.from_bytes(header[5:8], "big")
        padded = self.exactly(length + -length % 4)
        if self.data_digest and length:
            assert self.exactly(4) == crc32c(padded), "data digest"
        return header, padded[:length]

    def scsi(self, cdb, lun=0, room=65536):
        """Carries out a command that reads: its data and its sense (None where the status is GOOD)."""
        self.tag += 1
        command = bytes(cdb) + bytes(16 - len(cdb))
        self.send(0x01, 0xC1, lun=bytes([0, lun, 0, 0, 0, 0, 0, 0]), tag=self.tag,
                  words=[(20, room.to_bytes(4, "big")), (32, command)])
        self.command += 1
        data = b""
        while True:
            header, piece = self.receive()
            assert header[16:20] == self.tag.to_bytes(4, "big"), f"an answer to another task: {header.hex()}"
            if header[0] == 0x25:
                assert int.from_bytes(header[40:44], "big") == len(data), "Data-In out of order"
                data += piece
                if not header[1] & 1:
                    continue
                return data, None
            assert header[0] == 0x21, f"opcode {header[0]:02x}"
            if header[3] == 0:
                return data, None
            sense = piece[2:]
            return data, (sense[2] & 15, sense[12], sense[13])

    def good(self, cdb, lun=0, room=65536):
        data, sense = self.scsi(cdb, lun, room)
        assert sense is None, f"{bytes(cdb).hex()}: sense {sense}"
        return data

    def send_targets(self):
        self.send(0x04, 0x80, b"SendTargets=All\0", tag=9, words=[(20, NO_TAG.to_bytes(4, "big"))])
        self.command += 1
        return self.receive()[1].decode().split("\0")

    def logout(self):
        self.send(0x46, 0x80, tag=99)
        while True:
            header, _ = self.receive()
            if header[0] == 0x26:
                self.stream.close()
                return


def chap_response(number, secret, challenge):
    return "0x" + hashlib.md5(bytes([number]) + secret + challenge).hexdigest()
