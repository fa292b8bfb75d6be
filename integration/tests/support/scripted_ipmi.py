"""A BMC that speaks IPMI 2.0 as a script says: the cipher suites 3 and 17, wrong rights, lost packets, hangs.

Written from the specification (IPMI 2.0, revision 1.1) with hashlib and `cryptography`. `ipmitool` is the judge of it in test_ipmi.py.
"""

import hashlib
import hmac
import os
import socket
import struct
import threading

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

RMCP = bytes([6, 0, 0xFF, 7])
PING = bytes.fromhex("0600ff06000011be80")
LEVELS = {"user": 2, "operator": 3, "administrator": 4}
# Number -> authentication, integrity and confidentiality algorithm, hash, length of the integrity code.
SUITES = {3: ((1, 1, 1), hashlib.sha1, 12), 17: ((3, 4, 1), hashlib.sha256, 16)}
# The level that a command needs (appendix G); others need "user".
NEEDS = {(0, 2): "operator", (0, 8): "operator"}


def checksum(octets):
    return -sum(octets) & 0xFF


class Session:
    """A session, from the Open Session Request on."""

    def __init__(self, number, console, suite):
        self.id, self.console, self.suite = number, console, suite
        (_, self.hash, self.code_length) = SUITES[suite]
        self.level, self.sent, self.is_open = 2, 0, False

    def sign(self, key, *parts):
        return hmac.new(key, b"".join(parts), self.hash).digest()


class ScriptedIpmi:
    """One machine's BMC on a UDP port of 127.0.0.1.

    `hang` has the payload types (0x10, 0x12, 0x14) and commands ((function, command)) that are not answered; `lose` is the number of
    packets that are dropped next; `twice` sends each answer twice; `damage` flips a bit of each answer in a session.
    """

    def __init__(self, port, suites=(3, 17), users=None, power="off", obeys=True):
        self.suites, self.power, self.obeys = suites, power, obeys
        self.users = users or {"admin": ("password", "administrator")}
        self.hang, self.lose, self.twice, self.damage, self.strip, self.codes = set(), 0, False, False, False, {}
        self.algorithms, self.full = None, False
        self.sessions, self.closed, self.asked, self.opened, self.logins, self.options, self.numbers = {}, 0, [], [], [], {}, []
        self.guid, self.lock = os.urandom(16), threading.Lock()
        self.serial = None  # A function that gets the octets of the console's keyboard.
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.is_closing = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        self.is_closing = True
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        self.socket.close()

    def serve(self):
        while not self.is_closing:
            packet, peer = self.socket.recvfrom(2048)
            with self.lock:
                if self.lose > 0:
                    self.lose -= 1
                    continue
                answer = self.answer(packet, peer)
            if answer:
                for _ in range(2 if self.twice else 1):
                    self.socket.sendto(answer, peer)

    def answer(self, packet, peer):
        if packet.startswith(PING):
            return bytes.fromhex("0600ff06000011be40") + packet[9:10] + bytes.fromhex("0010000011be000000008100000000000000")
        if packet[:4] != RMCP or len(packet) < 14:
            return None
        if packet[4] != 6:
            return self.answer_15(packet)
        kind, session, _, length = packet[5], *struct.unpack("<IIH", packet[6:16])
        body = packet[16:16 + length]
        if session == 0:
            if kind in self.hang:
                return None
            answer = {0x10: self.open_session, 0x12: self.rakp1, 0x14: self.rakp3}[kind](body)
            return answer and RMCP + bytes([6, kind + 1]) + bytes(8) + struct.pack("<H", len(answer)) + answer
        return self.in_session(self.sessions.get(session), kind, packet, body, peer)

    def answer_15(self, packet):
        """Get Channel Authentication Capabilities, with which ipmitool begins: IPMI 2.0, no type of 1.5."""
        message = packet[14:]
        if message[1] >> 2 != 6 or message[5] != 0x38:
            return None
        answer = self.message(message, 0, bytes([1, 0x80, 0x04, 0x02, 0, 0, 0, 0]))
        return RMCP + bytes(9) + bytes([len(answer)]) + answer

    def open_session(self, body):
        tag, console = body[0], body[4:8]
        wanted = (body[12], body[20], body[28])
        self.opened.append(wanted)
        suite = next((number for number in self.suites if SUITES[number][0] == wanted), None)
        if suite is None or self.full:
            return bytes([tag, 1 if self.full else 0x11, 0, 0]) + console
        session = Session(0x1000 + len(self.opened), console, suite)
        self.sessions[session.id] = session
        chosen = self.algorithms or wanted
        blocks = b"".join(bytes([number, 0, 0, 8, algorithm, 0, 0, 0]) for number, algorithm in enumerate(chosen))
        return bytes([tag, 0, 4, 0]) + console + struct.pack("<I", session.id) + blocks

    def rakp1(self, body):
        tag, session = body[0], self.sessions[struct.unpack("<I", body[4:8])[0]]
        session.console_random, session.role, name = body[8:24], body[24], body[28:28 + body[27]]
        self.logins.append(name.decode())
        password, limit = self.users.get(name.decode(), (None, None))
        if password is None:
            return bytes([tag, 0x0D, 0, 0]) + session.console
        if session.role & 0xF > LEVELS[limit]:
            return bytes([tag, 0x0A, 0, 0]) + session.console
        session.key, session.random = password.encode().ljust(20, b"\0"), os.urandom(16)
        session.name = bytes([session.role, len(name)]) + name
        code = session.sign(session.key, session.console, struct.pack("<I", session.id), session.console_random, session.random, self.guid, session.name)
        return bytes([tag, 0, 0, 0]) + session.console + session.random + self.guid + code

    def rakp3(self, body):
        tag, status, session = body[0], body[1], self.sessions[struct.unpack("<I", body[4:8])[0]]
        expected = session.sign(session.key, session.random, session.console, session.name)
        if status or body[8:] != expected:
            del self.sessions[session.id]
            return bytes([tag, 0x0F, 0, 0]) + session.console
        key = session.sign(session.key, session.console_random, session.random, session.name)
        session.k1, session.k2 = session.sign(key, b"\1" * 20), session.sign(key, b"\2" * 20)
        session.is_open = True
        code = session.sign(key, session.console_random, struct.pack("<I", session.id), self.guid)[:session.code_length]
        return bytes([tag, 0, 0, 0]) + session.console + code

    def in_session(self, session, kind, packet, body, peer):
        if session is None or not session.is_open or kind & 0xC0 != 0xC0:
            return None
        signed, code = packet[4:-session.code_length], packet[-session.code_length:]
        if session.sign(session.k1, signed)[:session.code_length] != code:
            return None
        self.numbers.append(struct.unpack("<I", packet[10:14])[0])
        decryptor = Cipher(algorithms.AES(session.k2[:16]), modes.CBC(body[:16])).decryptor()
        plain = decryptor.update(body[16:]) + decryptor.finalize()
        assert plain[-1 - plain[-1]:-1] == bytes(range(1, plain[-1] + 1)), "the padding is 1, 2, 3..."
        message, session.peer = plain[:-1 - plain[-1]], peer
        if kind & 0x3F == 1:
            return self.on_serial(session, message)
        function, command, data = message[1] >> 2, message[5], message[6:-1]
        assert checksum(message[:3]) == 0 and checksum(message[3:]) == 0
        self.asked.append((function, command, bytes(data)))
        if (function, command) in self.hang:
            return None
        code, result = self.carry_out(session, function, command, data)
        answer = self.seal(session, 0, self.message(message, code, result))
        if (function, command) == (6, 0x3C):
            self.closed += 1
            del self.sessions[session.id]
        return answer

    def carry_out(self, session, function, command, data):
        if (function, command) in self.codes:
            return self.codes[function, command], b""
        if session.level < LEVELS[NEEDS.get((function, command), "user")]:
            return 0xD4, b""
        if (function, command) == (6, 0x3B):
            session.level = data[0] or session.level
            return 0, bytes([session.level])
        if (function, command) == (0, 1):
            return 0, bytes([0x21 if self.power == "on" else 0x20, 0, 0])
        if (function, command) == (0, 2):
            if self.obeys:
                self.power = "off" if data[0] in (0, 5) else "on"
            return 0, b""
        if (function, command) == (0, 8):
            self.options[data[0]] = bytes(data[1:])
            return 0, b""
        if (function, command) == (6, 0x3C):
            return 0, b""
        return self.on_payload(session, function, command, data)

    def on_payload(self, session, function, command, data):
        return 0xC1, b""

    def on_serial(self, session, message):
        return None

    def message(self, request, code, data):
        """The response to a request."""
        head = bytes([request[3], (request[1] >> 2 | 1) << 2])
        tail = bytes([request[0], request[4], request[5], code]) + data
        return head + bytes([checksum(head)]) + tail + bytes([checksum(tail)])

    def seal(self, session, kind, plain):
        session.sent += 1
        console = struct.unpack("<I", session.console)[0]
        if self.strip:
            return RMCP + bytes([6, kind]) + struct.pack("<IIH", console, session.sent, len(plain)) + plain
        padding = -(len(plain) + 1) % 16
        vector = os.urandom(16)
        encryptor = Cipher(algorithms.AES(session.k2[:16]), modes.CBC(vector)).encryptor()
        body = vector + encryptor.update(plain + bytes(range(1, padding + 1)) + bytes([padding])) + encryptor.finalize()
        signed = bytes([6, 0xC0 | kind]) + struct.pack("<IIH", console, session.sent, len(body)) + body
        filling = -(len(signed) + 2) % 4
        signed += b"\xff" * filling + bytes([filling, 7])
        code = bytearray(session.sign(session.k1, signed)[:session.code_length])
        if self.damage:
            code[0] ^= 1
        return RMCP + signed + bytes(code)
