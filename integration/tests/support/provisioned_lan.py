"""A server with three hosts that install with a secret config, machines on its link and behind a router, and their requests."""

import http.client
import json
import os
import re
import socket
import subprocess

from support.lan import Failure, run, tool
from support.objects import CONFIGS, HOSTS, IMAGES
from support.tiny_iso import tiny_iso
from support.waiting import eventually

OURS, ROUTER, NEAR, FAR, SECOND = "10.88.0.2", "10.88.0.9", "10.88.0.10", "10.89.0.20", "10.89.0.21"
MACS = {"near": "52:54:00:00:00:01", "far": "52:54:00:00:00:02", "other": "52:54:00:00:00:03"}
IQN = "iqn.2026-11.org.bootlatch"
SECRET = "#cloud-config\npassword: sesame\n"


class Box:
    """bootlatch on the bridge br0, with three hosts that install from one ISO with a secret config.

    `environment` holds variables of the server, as NAME=VALUE.
    """

    def __init__(self, lan, config="", unknown="localboot", environment=()):
        self.lan, self.unknown, self.environment = lan, unknown, environment
        self.space = lan.client("srv", address=f"{OURS}/24")
        lan.ip(self.space, "route", "add", "10.89.0.0/24", "via", ROUTER)
        self.state = lan.folder / "state"
        (self.state / "isos").mkdir(parents=True)
        (self.state / "isos/x.iso").write_bytes(tiny_iso())
        self.program = None
        self.start(config)
        self.make(CONFIGS, "BootConfig", "secret", {"format": "cloud-init", "data": {"user-data": SECRET, "vendor-data": "#cloud-config\n"}, "confidential": True})
        self.make(IMAGES, "ISCSICdrom", "live", {"isoFile": "x.iso", "bootConfigs": ["secret"]})
        for name, mac in MACS.items():
            self.make(HOSTS, "BareMetalHost", name, {"bootMACAddress": mac, "image": "live", "bootConfigRef": "secret"})

    def start(self, config):
        """Starts the server, or restarts it with another configuration."""
        if self.program:
            self.program.stop()
        file = self.lan.folder / "bootlatch.toml"
        file.write_text(f'interface = "lan0"\nuser = "root"\nunknown_hosts = "{self.unknown}"\n{config}')
        self.program = self.lan.start(self.space, "bootlatch", "env", *self.environment, os.environ["BOOTLATCH"], "serve", "--config", str(file), "--state-dir", str(self.state),
                                      "--firmware-dir", str(self.lan.folder))
        self.program.says("ready")

    def api(self, method, path, body=None, kind="application/merge-patch+json"):
        """Sends a request over the unix socket and returns the status and the body."""
        connection = http.client.HTTPConnection("bootlatch")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.state / "api.sock"))
        connection.request(method, path, body and json.dumps(body), {"Content-Type": kind if method == "PATCH" else "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def make(self, route, kind, name, spec):
        code, made = self.api("POST", route, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        if code != 201:
            raise Failure(f"{name}: {code} {made}")

    def change(self, name, **spec):
        route = IMAGES if name == "live" else HOSTS
        code, made = self.api("PATCH", f"{route}/{name}", {"spec": spec})
        if code != 200:
            raise Failure(f"{name}: {code} {made}")

    def reinstall(self):
        """Starts every install again."""
        for name in MACS:
            self.api("POST", f"{HOSTS}/{name}/install")

    def status(self, name):
        return self.api("GET", f"{HOSTS}/{name}")[1]["status"]

    def host_names(self):
        return sorted(item["metadata"]["name"] for item in self.api("GET", HOSTS)[1]["items"])

    def metrics(self):
        """Returns the value of every metric by its name and labels."""
        text = run(tool("curl"), "-s", "--unix-socket", str(self.state / "api.sock"), "http://x/metrics")
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, value in lines}

    def handled(self, protocol="dhcp"):
        """Returns how many messages of a protocol were answered, dropped or refused."""
        kinds = ("bootlatch_requests_total", "bootlatch_requests_refused_total", "bootlatch_packets_dropped_total")
        return sum(value for name, value in self.metrics().items() if name.startswith(kinds) and f'protocol="{protocol}"' in name)

    def dropped(self, protocol, reason):
        return self.metrics().get(f'bootlatch_packets_dropped_total{{protocol="{protocol}",reason="{reason}"}}', 0)

    def events(self, name, event, words=""):
        """Returns the details of a host's events of a kind that contain the words, as soon as there is one."""
        look = lambda: [entry["detail"] for entry in self.api("GET", f"{HOSTS}/{name}/timeline")[1]["items"]
                        if entry["event"] == event and words in json.dumps(entry["detail"])]
        return eventually(look)


class Machine:
    def __init__(self, lan, name, bridge, *addresses, router=None, mac=None):
        self.lan, self.name, self.mac = lan, name, mac or MACS[name]
        self.space = lan.client(name, bridge=bridge, mac=self.mac)
        for address in addresses:
            lan.ip(self.space, "address", "add", f"{address}/24", "dev", "lan0")
        if router and addresses:
            lan.ip(self.space, "route", "add", "default", "via", router)

    def ask(self, path, method="GET", source=None):
        """Sends a request with curl and returns the status and the body."""
        source = ["--interface", source] if source else []
        done = subprocess.run(self.lan.inside(self.space, tool("curl"), "-s", "-m", "10", "-w", "\n%{http_code}", "-X", method, *source, f"http://{OURS}{path}"),
                              capture_output=True, text=True)
        body, code = done.stdout.rsplit("\n", 1)
        return int(code), body

    def fetch(self, path):
        run(*self.lan.inside(self.space, tool("curl"), "-sf", "-m", "10", "-o", "/dev/null", f"http://{OURS}{path}"))

    def code_of(self, path):
        done = subprocess.run(self.lan.inside(self.space, tool("curl"), "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", f"http://{OURS}{path}"),
                              capture_output=True, text=True)
        return int(done.stdout)

    def script(self, whose=None, source=None):
        return self.ask(f"/ipxe?mac={MACS[whose or self.name]}", source=source)[1]

    def tftp(self, whose):
        done = subprocess.run(self.lan.inside(self.space, tool("curl"), "-s", "-m", "10", f"tftp://{OURS}/{MACS[whose].replace(':', '-')}/autoexec.ipxe"),
                              capture_output=True, text=True)
        return done.stdout

    def units(self, whose=None, token=""):
        """Returns the LUNs that libiscsi sees in a machine's name, or None if its login is refused."""
        initiator = ":".join([IQN, MACS[whose or self.name].replace(":", "-"), *([token] if token else [])])
        done = subprocess.run(self.lan.inside(self.space, tool("iscsi-ls"), "-s", "-i", initiator, f"iscsi://{OURS}"), capture_output=True, text=True)
        return re.findall(r"Lun:(\d+)", done.stdout) if "Lun:" in done.stdout else None

    def seed(self, token="", unit=1):
        """Returns what QEMU reads from a LUN; by default the seed's."""
        initiator = ":".join([IQN, self.mac.replace(":", "-"), *([token] if token else [])])
        copy = self.lan.folder / "seed"
        copy.unlink(missing_ok=True)
        options = f"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={OURS}:3260,file.target={IQN}:live,file.lun={unit},file.initiator-name={initiator}"
        subprocess.run(self.lan.inside(self.space, tool("qemu-img"), "convert", "--image-opts", options, "-O", "raw", str(copy)), capture_output=True)
        return copy.read_bytes() if copy.exists() else b""


def token_of(script):
    """Returns the token in a script, or None."""
    found = re.search(r"set config-url \S+/nocloud/([0-9a-f]+)", script)
    return found and found.group(1)


def routed_network(lan, config="", *far, environment=()):
    """Returns the server, a machine on the same bridge, a machine behind a router, and the router."""
    router = lan.client("router", address=f"{ROUTER}/24")
    lan.join(router, "br1", "10.89.0.1/24", interface="lan1")
    run(*lan.inside(router, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    box = Box(lan, config, environment=environment)
    near = Machine(lan, "near", "br0", NEAR)
    return box, near, Machine(lan, "far", "br1", *far, router="10.89.0.1"), router


SUBNETS = """
[dhcp]
mode = "server"
[[dhcp.subnets]]
subnet = "10.88.0.0/24"
pools = ["10.88.0.100-10.88.0.119"]
[[dhcp.subnets]]
subnet = "10.89.0.0/24"
pools = ["10.89.0.100-10.89.0.119"]
routers = ["10.89.0.1"]
"""


# dhcrelay sends from the router's near address, and writes its far one into giaddr.
DHCRELAY = f'relays = ["{ROUTER}"]\n'
RELAYED_SUBNETS = SUBNETS.replace("[dhcp]\n", f"[dhcp]\n{DHCRELAY}", 1)


def udhcpc(lan, machine):
    """Gets a lease for a machine with busybox's client and returns the address."""
    script = lan.folder / "udhcpc.sh"
    out = lan.folder / f"udhcpc-{next(lan.count)}"
    script.write_text('#!/bin/sh\n[ "$1" = bound ] || exit 0\nip address flush dev lan0\nip address replace $ip/24 dev lan0\nip route replace default via ${router:-10.89.0.1}\necho $ip > "$OUT"\n')
    script.chmod(0o755)
    run(*lan.inside(machine.space, "env", f"OUT={out}", tool("busybox"), "udhcpc", "-i", "lan0", "-n", "-q", "-f", "-t", "5", "-T", "2", "-s", str(script)), check=False, limit=20)
    if not out.exists():
        raise Failure(f"{machine.name} got no address")
    return out.read_text().strip()


def relay(lan, router, *servers):
    lan.start(router, "dhcrelay", tool("dhcrelay"), "-4", "-d", "-a", "-id", "lan1", "-iu", "lan0", *servers).says("Sending on   Socket/fallback")
