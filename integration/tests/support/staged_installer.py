"""The steps of a machine after its boot script: the ISO, the installer and its config, and the installed system."""

import contextlib
import http.client
import json
import socket

from support.dhcp_wire import ACK, DISCOVER, REQUEST
from support.ipxe_script import CONNECTION_RESET, NOT_BOOTABLE, TIMED_OUT, Interpreter, Left
from support.iscsi_initiator import Ended as SessionEnded
from support.iscsi_initiator import Initiator, Refused
from support.lan import entered, socket_in

# boot-facts 18: iPXE's login.
IPXE_KEYS = ("HeaderDigest=None", "DataDigest=None", "InitialR2T=Yes", "ImmediateData=No", "MaxRecvDataSegmentLength=8192",
             "MaxBurstLength=262144", "DefaultTime2Wait=0", "DefaultTime2Retain=0", "MaxOutstandingR2T=1", "ErrorRecoveryLevel=0")
SECTOR = 2048
BURST = 16  # sectors of one READ(10)
PATIENCE = 5.0  # seconds of an HTTP or iSCSI client for one answer
IPXE, CLOUD_INIT, CURL, WGET = "iPXE/1.21.1+ (g83449)", "Cloud-Init/24.4", "curl/8.11.0", "Wget/1.24.5"
UEFI_HTTP_AGENT = "UefiHttpBoot/1.0"


class KeptConnection:
    """A kept-alive connection for downloads, with the small receive buffer of firmware. Closing it amid a file resets it."""

    def __init__(self, machine, agent):
        self.machine, self.agent = machine, agent
        self.stream = socket_in(machine.space, socket.AF_INET, socket.SOCK_STREAM)
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.stream.settimeout(PATIENCE * machine.lan.slowness())
        self.stream.connect((machine.server, 80))
        machine.keep(self.stream)

    def load(self, path, stop_after=None, part=None):
        """Loads a file, or the beginning of it; returns the number of bytes. `part`: the first and the last byte of a range."""
        wanted = "Range: bytes={}-{}\r\n".format(*part) if part else ""
        self.stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.machine.server}\r\nUser-Agent: {self.agent}\r\n{wanted}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.receive()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206" if part else b"HTTP/1.1 200"), f"{path} is served: {head}"
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        count = len(body)
        while count < (stop_after or length):
            count += len(self.receive())
        self.machine.note(f"HTTP: {count} of {length} bytes of {path}")
        return count

    def receive(self):
        data = self.stream.recv(4096)
        assert data, "the connection stays open"
        return data

    def close(self):
        self.stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class InstallerSteps:
    """Methods of StagedMachine."""

    def connection(self, port):
        """Opens a TCP connection to the server."""
        stream = socket_in(self.space, socket.AF_INET, socket.SOCK_STREAM)
        if self.interface != "lan0":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
        if self.source:
            stream.bind((self.source, 0))
        stream.settimeout(PATIENCE * self.lan.slowness())
        stream.connect((self.server, port))
        return stream

    def http(self, method, path, agent=CURL, headers=(), body=None):
        """Sends a request over a connection of its own; returns the status and the body."""
        client = http.client.HTTPConnection(self.server, 80)
        client.sock = self.connection(80)
        try:
            client.request(method, path, body, {"User-Agent": agent, "Connection": "close", **dict(headers)})
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def downloads(self, agent):
        """Returns a kept-alive connection that files are loaded over."""
        return KeptConnection(self, agent)

    # iSCSI.

    def login(self, target, initiator=None):
        """Logs in to a target like iPXE; returns the session. It raises Refused with the status of a refusal."""
        with entered(self.space):
            session = Initiator(3260, target, IPXE_KEYS, name=initiator or f"iqn.2026-11.org.bootlatch:{self.dashed}", address=self.server,
                                limit=PATIENCE, source=None if self.interface == "lan0" else self.address)
        return self.keep_session(session)

    def keep_session(self, session):
        self.keep(session.stream)
        return session

    def attach(self, script):
        """Logs in as a script says."""
        return self.login(script.target, script.initiator)

    def try_login(self, target, initiator=None):
        """Logs in where that is refused; returns the status class and detail, as four hexadecimal digits."""
        try:
            self.login(target, initiator)
        except Refused as refused:
            return refused.args[0]
        return "0000"

    def read_sectors(self, session, first, count):
        """Reads sectors; returns the sense of a failure, or None."""
        _, sense = session.scsi(bytes([0x28, 0]) + first.to_bytes(4, "big") + bytes([0]) + count.to_bytes(2, "big") + b"\0", room=count * SECTOR)
        return sense

    def read(self, session, kilobytes=2000, first=0):
        """Reads this much from the begin of the ISO, like a boot loader."""
        for at in range(0, kilobytes * 1000 // SECTOR, BURST):
            assert self.read_sectors(session, first + at, BURST) is None, f"{self.name} reads its ISO"

    def follow(self, script, fails=None, chains=1):
        """Runs a script as iPXE does, until it boots, leaves, or has chained as often as `chains`; returns the last text.

        `fails` is the error of each attempt to boot; without it iPXE really attaches the target."""
        def boots(command, words):
            if fails is not None or command not in ("sanboot", "sanhook"):
                return fails or 0
            target = script.target
            try:
                self.login(target, script.initiator)
                return 0
            except ConnectionError:
                return CONNECTION_RESET
            except (OSError, SessionEnded):
                return TIMED_OUT
            except Refused:
                return NOT_BOOTABLE

        def fetches(path):
            status, body = self.http("GET", path, agent=IPXE)
            return body.decode() if status == 200 else ""

        platform = "pcbios" if self.firmware.architecture == 0 else "efi"
        interpreter = Interpreter(self.server, platform, boots, fetches, self.wait, chains)
        try:
            return interpreter.run(script.text)
        except Left as left:
            self.note(f"iPXE left with {left.args[0]}")
            return interpreter.text

    # The installer.

    def fetch_config(self, script):
        """Fetches the files of the NoCloud source, like cloud-init."""
        codes = [self.http("GET", f"/nocloud/{script.token}/{file}", agent=CLOUD_INIT)[0] for file in ("meta-data", "user-data", "vendor-data")]
        assert codes == [200, 200, 200], f"{self.name} gets its config: {codes}"

    def complete(self, script):
        """Reports that the install is complete; returns the status code."""
        return self.http("POST", f"/api/v1/boot-complete?token={script.token}", body=b"")[0]

    def report(self, script, **words):
        """Sends a line of cloud-init's or curtin's webhook reporter; returns the status code."""
        body = json.dumps({"origin": "cloudinit", "timestamp": 1764000000.0, **words}).encode()
        return self.http("POST", f"/api/v1/report/{script.token}", agent=CLOUD_INIT, headers={"Content-Type": "application/json"}, body=body)[0]

    def install(self, script, kilobytes=1600):
        """Attaches the ISO, reads it, fetches the config; returns the session."""
        session = self.attach(script)
        self.read(session, kilobytes)
        self.fetch_config(script)
        return session

    # The system.

    def system_dhcp(self, vendor_class=None):
        """Does the DHCP of a system that runs: no option of a boot program."""
        client = self._dhcp()
        options = [(55, bytes([1, 3, 6, 12, 15, 26, 28, 42, 121])), (12, self.name.encode()), (57, b"\x05\xc0"), *vendor_class_of(vendor_class)]
        client.send(DISCOVER, options, secs=1)
        offers = client.replies(PATIENCE, lambda found: any(offer.yiaddr != "0.0.0.0" for offer in found))
        offer = next((offer for offer in offers if offer.yiaddr != "0.0.0.0"), None)
        if offer is None:
            return False
        taken = [(54, offer.options[54]), (50, socket.inet_aton(offer.yiaddr))]
        client.send(REQUEST, [*options, *taken], is_repeated=True, secs=1)
        client.replies(PATIENCE, lambda found: any(reply.kind == ACK for reply in found))
        self.take(offer.yiaddr)
        return True

    def try_http(self, *arguments, **options):
        """Sends a request that may get no answer; returns the status, or None."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http(*arguments, **options)[0]
        return None


def vendor_class_of(name):
    return [(60, name.encode())] if name else []
