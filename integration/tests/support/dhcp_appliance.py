"""The server under test on a LAN of namespaces: its address, its subnets, its leases, its metrics."""

import contextlib
import json
import socket

from support.dhcp_wire import Message
from support.lan import run, socket_in, tool
from support.programs import bootlatch

OURS = "10.88.0.2"
MAC = "52:54:00:88:00:{:02x}"
SUBNETS = """
[[dhcp.subnets]]
subnet = "10.88.0.0/24"
pools = ["10.88.0.100-10.88.0.119"]
routers = ["10.88.0.2"]
dns = ["10.88.0.3", "10.88.0.4"]
ntp = ["10.88.0.5"]
domain = "lab.example"
search = ["lab.example", "example.org"]
routes = [{ to = "10.99.0.0/16", via = "10.88.0.9" }]
lease_time = "10m"
[[dhcp.subnets.reservations]]
mac = "52:54:00:88:00:50"
address = "10.88.0.50"
hostname = "kept"
[[dhcp.subnets.reservations]]
client_id = "00:6e:6f:64:65"
address = "10.88.0.51"
[[dhcp.subnets]]
subnet = "10.89.0.0/24"
pools = ["10.89.0.100-10.89.0.119"]
routers = ["10.89.0.1"]
lease_time = "10m"
"""


class Appliance:
    """bootlatch in its own namespace; its state outlives a restart."""

    def __init__(self, lan, space, config, unknown="localboot", first="", interface="lan0"):
        self.lan, self.space = lan, space
        self.state = lan.folder / f"state-{next(lan.count)}"
        self.config = lan.folder / f"{self.state.name}.toml"
        self.config.write_text(first + f'interface = "{interface}"\nunknown_hosts = "{unknown}"\nuser = "nobody"\n' + config)
        self.program = None
        self.start()

    def start(self):
        self.program = self.lan.start(self.space, "bootlatch", "env", "RUST_LOG=info,bootlatch=debug", str(bootlatch()), "serve",
                                      "--config", str(self.config), "--state-dir", str(self.state),
                                      "--firmware-dir", str(self.lan.folder))
        self.program.says("ready")

    def stop(self, *how):
        self.program.stop(*how)

    def leases(self):
        """Returns the rows of dhcp.leases by address."""
        path = self.state / "dhcp.leases"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return {row[2]: row for row in rows}

    def command(self, *words):
        """Runs the command line against this server."""
        server = f"unix:{self.state}/api.sock"
        return run(*self.lan.inside(self.space, str(bootlatch()), *words, "--server", server))

    def get(self, path):
        """Returns what the server's Unix socket answers to a GET."""
        return run(*self.lan.inside(self.space, tool("curl"), "-s", "--unix-socket", f"{self.state}/api.sock", f"http://x{path}"))

    def timeline(self):
        """Returns the entries of the server's timeline."""
        return json.loads(self.get("/api/v1/timeline"))["items"]

    def metrics(self):
        """Returns the value of every metric by its name and labels."""
        lines = [line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, value in lines}

    def dropped_since(self, before, protocol):
        """Returns how many packets were dropped since, by reason."""
        mark = f'bootlatch_packets_dropped_total{{protocol="{protocol}",reason="'
        found = {name[len(mark):-2]: value - before.get(name, 0) for name, value in self.metrics().items() if name.startswith(mark)}
        return {reason: int(count) for reason, count in found.items() if count}

    def handled_since(self, before):
        """Returns how many DHCP messages were answered, dropped or refused since."""
        kinds = ("bootlatch_requests_total", "bootlatch_packets_dropped_total")
        return sum(value - before.get(name, 0) for name, value in self.metrics().items()
                   if name.startswith(kinds) and 'protocol="dhcp"' in name)


def udp_socket(space, port):
    """Opens a UDP socket in a namespace, bound to a port."""
    sock = socket_in(space, socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.bind(("0.0.0.0", port))
    return sock


def ask(sock, data, to, wait=1, tries=1):
    """Sends a datagram, again after each `wait` seconds without a reply; returns the reply with its source, or None."""
    sock.settimeout(wait)
    for _ in range(tries):
        sock.sendto(data, to)
        with contextlib.suppress(TimeoutError):
            return Message(*sock.recvfrom(4096))
    return None
