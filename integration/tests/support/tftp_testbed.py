"""`bootlatch serve` and TFTP clients at the two ends of a veth pair, and a client of single packets."""

import itertools
import socket
import subprocess

from support.lan import Lan, socket_in
from support.programs import bootlatch
from support.waiting import slowness

ADDRESS, PEER, SECOND = "10.91.0.1", "10.91.0.2", "10.91.0.3"
ADDRESS6 = "fd88::1"
SIZES = {"empty": 0, "one": 1, "full": 512 * 3, "program": 1_100_000, "large": 34_000_000}


class TftpTestbed:
    """A server in one namespace, its clients in another."""

    def __init__(self, files, config="", chosen=("--address", ADDRESS), mtu=1500):
        self.files = files
        self.lan = Lan()
        self.count = itertools.count()
        try:
            self.connect(mtu)
            self.start(config, chosen)
        except BaseException:
            self.lan.close()
            raise

    def connect(self, mtu):
        self.server, self.clients = self.lan.space("server"), self.lan.space("clients")
        self.lan.ip(self.server, "link", "add", "boot0", "type", "veth", "peer", "name", "boot0", "netns", self.clients)
        for space, address in ((self.server, ADDRESS), (self.clients, PEER)):
            self.lan.ip(space, "address", "add", f"{address}/24", "dev", "boot0")
            self.lan.ip(space, "address", "add", f"fd88::{address.rsplit('.', 1)[1]}/64", "dev", "boot0", "nodad")
            self.lan.ip(space, "link", "set", "boot0", "mtu", str(mtu), "up")
        self.lan.ip(self.server, "address", "add", f"{SECOND}/24", "dev", "boot0")

    def start(self, config, chosen):
        file = self.lan.folder / "config.toml"
        file.write_text(f'user = "root"\n[dhcp]\nmode = "off"\n[tftp]\n{config}\n')
        self.program = self.lan.start(self.server, "bootlatch", str(bootlatch()), "serve", "--config", str(file), "--interface", "boot0",
                                      *chosen, "--state-dir", str(self.lan.folder / "state"), "--firmware-dir", str(self.files),
                                      "--http-port", "8080")
        self.program.says("ready", limit=30)

    @property
    def programs(self):
        """The programs whose logs belong to the report of a failed test."""
        return self.lan.programs

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program.stop()
        self.lan.close()

    def fetch(self, command, wanted):
        """Runs a client that writes to "got"; returns whether it got the file, and what is known if it did not."""
        place = self.lan.folder / f"fetch-{next(self.count)}"
        place.mkdir()
        done = subprocess.run(self.lan.inside(self.clients, *command), capture_output=True, text=True, errors="replace",
                              timeout=120 * slowness(), cwd=place)
        # curl and busybox write no file if it is empty.
        got = (place / "got").read_bytes() if (place / "got").exists() else b""
        (place / "got").unlink(missing_ok=True)
        whole = done.returncode == 0 and got == (self.files / wanted).read_bytes()
        return whole, f"code {done.returncode}, {len(got)} octets: {done.stdout}{done.stderr}"


class PacketClient:
    """A client that sends given datagrams and returns the replies."""

    def __init__(self, testbed):
        self.socket = socket_in(testbed.clients, socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(10 * slowness())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, datagram, address=ADDRESS):
        """Sends a datagram to port 69; returns the reply and its source."""
        self.socket.sendto(datagram, (address, 69))
        return self.receive()

    def read(self, name, *options):
        """Sends a read request; returns the reply and its source."""
        return self.ask(b"\0\1" + b"\0".join([name.encode(), b"octet", *[str(word).encode() for word in options], b""]))

    def send(self, datagram, peer=(ADDRESS, 69)):
        self.socket.sendto(datagram, peer)

    def abort(self, peer, message=b""):
        """Ends a transfer with an ERROR packet."""
        self.send(b"\0\5\0\0" + message + b"\0", peer)

    def receive(self):
        return self.socket.recvfrom(70_000)

    def receive_block(self):
        """Receives a DATA packet and returns its block number."""
        return int.from_bytes(self.receive()[0][2:4], "big")

    def is_quiet(self):
        """Returns whether nothing arrives for 0.3 s."""
        limit = self.socket.gettimeout()
        self.socket.settimeout(0.3)
        try:
            return not self.socket.recv(70_000)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(limit)
