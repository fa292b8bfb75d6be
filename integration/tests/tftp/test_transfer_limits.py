"""Strangers who request files: with many requests, with forged sources, and with guessed acknowledgements."""

import socket
import struct
import time

import pytest

from support.dhcp_wire import checksum
from support.lan import socket_in, tool
from support.tftp_testbed import ADDRESS, PacketClient, TftpTestbed
from support.waiting import slowness

VICTIM = "10.91.0.77"
RRQ, DATA, ACK, OACK = 1, 3, 4, 6


@pytest.fixture(scope="module", params=[False, True], ids=["own-ports", "one-port"])
def testbed(request, files):
    with TftpTestbed(files, f"single_port = {str(request.param).lower()}") as testbed:
        testbed.single_port = request.param
        yield testbed


def read_request(name, **options):
    text = b"\0\x01" + name.encode() + b"\0octet\0"
    return text + b"".join(key.encode() + b"\0" + str(value).encode() + b"\0" for key, value in options.items())


def fetches(testbed, name="program"):
    return testbed.fetch([tool("curl"), "-sS", "--tftp-blksize", "1428", "-o", "got", f"tftp://{ADDRESS}/{name}"], name)


class Forger:
    """An attacker that sends with the source address of a victim, and counts what the victim gets."""

    def __init__(self, testbed):
        own = testbed.lan.ip(testbed.clients, "-j", "link", "show", "boot0")
        self.mac = own.split('"address":"')[1][:17]
        # The server sends what is for the victim to the wire of the clients.
        testbed.lan.ip(testbed.server, "neigh", "replace", VICTIM, "lladdr", self.mac, "dev", "boot0", "nud", "permanent")
        self.sender = socket_in(testbed.clients, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.ear = socket_in(testbed.clients, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.ear.bind(("boot0", 0))
        self.ear.setblocking(False)
        self.sent = 0
        self.packets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sender.close()
        self.ear.close()

    def send(self, payload, port, to=69):
        udp = struct.pack("!HHHH", port, to, 8 + len(payload), 0) + payload
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + socket.inet_aton(VICTIM) + socket.inet_aton(ADDRESS)
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
        self.sender.sendto(ip + udp, (ADDRESS, to))
        self.sent += len(ip + udp)

    def hear(self):
        """Counts what has arrived for the victim."""
        while True:
            try:
                frame = self.ear.recv(70_000)
            except BlockingIOError:
                return
            if frame[30:34] == socket.inet_aton(VICTIM) and frame[23] == 17:
                self.packets.append((int.from_bytes(frame[42:44], "big"), len(frame) - 14))

    def listen(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.hear()
            time.sleep(0.01)  # the wire is polled, so that the buffer does not overflow

    def gain(self):
        """Returns how many bytes the victim got for each byte that the attacker sent."""
        return sum(length for _, length in self.packets) / self.sent


def learnt_ports(testbed, count=40):
    """Returns the ports from which the server answers the attacker itself."""
    ports = set()
    for _ in range(count):
        with PacketClient(testbed) as client:
            _, source = client.ask(read_request("large", blksize=1428))
            client.abort(source)
            ports.add(source[1])
    return sorted(ports)


def test_a_forged_request_brings_its_victim_three_small_packets(testbed):
    with Forger(testbed) as forger:
        for port in range(2000, 2010):
            forger.send(read_request("large", blksize=1468, windowsize=64, timeout=255), port)
        forger.listen(12)
        kinds = {kind for kind, _ in forger.packets}
        assert kinds == {OACK} and len(forger.packets) <= 30, f"at most three option acknowledgements each: {forger.packets}"
        assert forger.gain() < 3, f"{forger.gain():.1f} bytes for each byte"
    with Forger(testbed) as forger:
        for port in range(3000, 3010):
            forger.send(read_request("large"), port)
        forger.listen(12)
        assert 0 < len(forger.packets) <= 30 and {kind for kind, _ in forger.packets} == {DATA}, f"at most three first blocks each: {forger.packets}"
        assert max(length for _, length in forger.packets) <= 600


@pytest.mark.parametrize("options", [{"blksize": 1468, "windowsize": 64}, {"blksize": 1468}], ids=["window", "lockstep"])
def test_guessed_acknowledgements_gain_little(testbed, options):
    """The attacker knows the ports that the server answers from, but not which of them a forged transfer has."""
    ports = learnt_ports(testbed)
    window = options.get("windowsize", 1)
    with Forger(testbed) as forger:
        for client in range(100):
            port = 4000 + client
            forger.send(read_request("large", **options), port)
            forger.listen(0.02)
            for number in range(20):
                forger.send(struct.pack("!HH", ACK, number * window), port, to=ports[client % len(ports)])
                forger.listen(0.001)
        forger.listen(12)
        gain, data = forger.gain(), sum(kind == DATA for kind, _ in forger.packets)
        print(f"guessed acknowledgements, {options}: x{gain:.1f}, {data} blocks")
        if testbed.single_port:
            # The port is no secret. What is promised: one block for each acknowledgement, and no window.
            assert data <= 100 * (20 + 20), f"{data} blocks for 2,000 acknowledgements"
            assert gain < 66, f"x{gain:.1f}: the octets of so many blocks"
        elif window > 1:
            assert data == 0, f"no window is sent on guessed acknowledgements: {data} blocks, x{gain:.1f}"
        else:
            assert gain < 8, f"x{gain:.1f}"


def test_a_flood_of_requests_shuts_nobody_out(testbed):
    sockets = [socket_in(testbed.clients, socket.AF_INET, socket.SOCK_DGRAM) for _ in range(500)]
    try:
        for number in range(5000):
            sockets[number % 500].sendto(read_request("large", timeout=255, blksize=512 + number), (ADDRESS, 69))
        for _ in range(3):
            got, seen = fetches(testbed)
            assert got, f"a client at the attacker's own address gets its file: {seen}"
    finally:
        for one in sockets:
            one.close()
    with Forger(testbed) as forger:
        for number in range(6000):
            forger.send(read_request("large", timeout=255), 1024 + number)
        got, seen = fetches(testbed)
        assert got, f"a client gets its file while 6,000 forged requests wait: {seen}"


def test_one_source_keeps_64_transfers(testbed):
    held = [PacketClient(testbed) for _ in range(70)]
    try:
        for client in held[:64]:
            reply, source = client.ask(read_request("large"))
            client.socket.sendto(struct.pack("!HH", ACK, 1), source)
            assert client.receive_block() == 2
        held[64].socket.sendto(read_request("large"), (ADDRESS, 69))
        assert held[64].is_quiet(), "the 65th transfer of a source is dropped"
        testbed.lan.ip(testbed.clients, "address", "add", "10.91.0.9/24", "dev", "boot0")
        other = socket_in(testbed.clients, socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("10.91.0.9", 0))
        other.settimeout(10 * slowness())
        other.sendto(read_request("one"), (ADDRESS, 69))
        assert other.recv(2000)[:4] == b"\0\x03\0\x01", "another source gets its file"
        other.close()
    finally:
        for client in held:
            client.socket.close()
