"""A LAN with the server under test, its own DHCP server, and machines whose boots are staged. The objects that they boot."""

import http.client
import itertools
import json
import os
import shutil
import socket
import threading

from support.address_server import AddressServer, Treatment
from support.firmware import UEFI
from support.lan import Lan, run, tool
from support.objects import CONFIGS, HOSTS, IMAGES
from support.staged_machine import StagedMachine
from support.waiting import eventually, slowness

SERVER, DHCP, ELSEWHERE = "10.88.0.2", "10.88.0.1", "10.88.0.9"  # nobody is at the last one
SERVER_MAC, DHCP_MAC = "52:54:00:88:ff:02", "52:54:00:88:ff:01"
PROGRAM = "snponly.efi"
PROGRAM_SIZE = 250_000
PROGRAMS = (PROGRAM, "undionly.kpxe", "ipxe-arm64.efi", "shimx64.efi", "grubx64.efi")
MUTE_CONFIG = '{"ignition":{"version":"3.4.0"}}\n'  # never reports that the install is complete
CONFIG = "#cloud-config\nphone_home:\n  url: http://10.88.0.2/phone_home\n  tries: 3\n"
FIRST_MACHINE = 20  # last octet of the first machine's address


class StagedLan:
    """`config` is added to the server's configuration file; `isos` are paths by the name of their image, which installs.

    Add the machines, start the server, declare the hosts. Close it at the end."""

    netmask, server, log_level = "255.255.255.0", SERVER, "info"
    wrapper = ()  # a command that the server is started by
    prefix = 24

    def __init__(self, config="", isos=(), program_size=PROGRAM_SIZE):
        self.lan = Lan("br0")
        self.ended = threading.Event()
        self.count = itertools.count(1)
        self.machines, self.servers, self.config = [], [], config
        try:
            self._make_network()
            self._write_files(dict(isos), program_size)
        except BaseException:
            self.close()
            raise

    def _make_network(self):
        """Makes the namespaces of the server and of the DHCP server."""
        self.space = self.lan.client("srv", mac=SERVER_MAC, address=f"{SERVER}/{self.prefix}")
        self.dhcp_space = self.lan.client("dhcp", mac=DHCP_MAC, address=f"{DHCP}/{self.prefix}")
        self.dhcp = self.address_server(self.dhcp_space, DHCP)

    def _write_files(self, isos, program_size):
        self.folder = self.lan.folder
        self.state, self.firmware_dir = self.folder / "state", self.folder / "firmware"
        (self.state / "isos").mkdir(parents=True)
        self.firmware_dir.mkdir()
        for name in PROGRAMS:
            (self.firmware_dir / name).write_bytes(os.urandom(program_size))
        self.isos = isos
        for name, path in isos.items():
            shutil.copy(path, self.iso_path(name))

    def iso_path(self, name):
        return self.state / "isos" / f"{name}.iso"

    def start(self):
        """Starts the server, and makes the images and configs."""
        (self.folder / "bootlatch.toml").write_text(f'interface = "lan0"\nuser = "root"\nunknown_hosts = "localboot"\n{self.config}')
        self.program = self.lan.start(
            self.space, "bootlatch", *self.wrapper, "env", f"BOOTLATCH_LOG={self.log_level}", os.environ["BOOTLATCH"], "serve", "--config", str(self.folder / "bootlatch.toml"),
            "--state-dir", str(self.state), "--firmware-dir", str(self.firmware_dir))
        self.program.says("ready", 60)
        self.make(CONFIGS, "BootConfig", "cfg", {"format": "cloud-init", "data": {"user-data": CONFIG}})
        self.make(CONFIGS, "BootConfig", "silent", {"format": "ignition", "data": {"config.ign": MUTE_CONFIG}})
        for name in self.isos:
            self.make(IMAGES, "ISCSICdrom", name, {"isoFile": f"{name}.iso", "bootConfigs": ["cfg", "silent"]})

    # The network.

    def ip(self, *words):
        return self.lan.ip(*words)

    def slowness(self):
        return slowness()

    def inside(self, space, *command):
        """Runs a command in a namespace; returns its output."""
        return run(*self.lan.inside(space, tool(command[0]), *command[1:]))

    def join(self, space, mac, address, interface):
        """Connects another interface of a namespace; each answers ARP for its own address only."""
        self.lan.join(space, "br0", f"{address}/{self.prefix}", interface=interface, mac=mac)
        self.inside(space, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")

    def address_server(self, space, address, **options):
        """Starts a DHCP server in a namespace."""
        server = AddressServer(space, address, self.netmask, **options)
        self.servers.append(server)
        return server

    def treat(self, machine, **how):
        """Sets how the DHCP server treats a machine; without arguments like all others."""
        self.dhcp.treatments[machine.mac] = Treatment(**how)

    def add_machine(self, name, firmware=UEFI, program=None):
        """Adds a machine in a namespace of its own. `program` is the boot program of this machine alone."""
        number = FIRST_MACHINE + next(self.count)
        mac, address = f"52:54:00:88:00:{number:02x}", f"10.88.0.{number}"
        space = self.lan.client(f"m{number}", mac=mac)
        self.dhcp.leases[mac] = address
        if program:
            self.config += f'[[overrides]]\nmac = "{mac}"\nprogram = "{program}"\n'
        machine = StagedMachine(self, space, name, mac, address, firmware)
        self.machines.append(machine)
        return machine

    def declare(self, machine, **spec):
        """Makes the host of a machine, which installs the image "live" unless `spec` says otherwise."""
        usual = {"bootMACAddress": machine.mac, "image": "live", "bootConfigRef": "cfg"}
        self.make(HOSTS, "BareMetalHost", machine.name, {key: value for key, value in {**usual, **spec}.items() if value is not None})

    # The server.

    def api(self, method, path, body=None, kind=None):
        """Sends a request over the server's unix socket; returns the status and the decoded body (its text if it is no JSON)."""
        connection = http.client.HTTPConnection("bootlatch", timeout=30 * slowness())
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30 * slowness())
        connection.sock.connect(str(self.state / "api.sock"))
        kind = kind or ("application/merge-patch+json" if method == "PATCH" else "application/json")
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind} if body is not None else {})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] in ("{", "[") else text
        finally:
            connection.close()

    def make(self, route, kind, name, spec):
        code, made = self.api("POST", route, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        assert code == 201, f"{kind} {name} is made: {code} {made}"

    def change(self, route, name, **spec):
        code, made = self.api("PATCH", f"{route}/{name}", {"spec": spec})
        assert code == 200, f"{name} is changed: {code} {made}"

    def host(self, name):
        return self.api("GET", f"{HOSTS}/{name}")[1]

    def phase(self, name):
        return self.host(name)["status"]["phase"]

    def timeline(self, name):
        """Returns the entries of a host's timeline."""
        return self.api("GET", f"{HOSTS}/{name}/timeline")[1]["items"]

    def metrics(self):
        """Returns the value of every metric by its name and labels."""
        lines = [line.rsplit(" ", 1) for line in self.api("GET", "/metrics")[1].splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, value in lines}

    def command(self, *words):
        """Runs the command line against this server; returns its output."""
        return run(os.environ["BOOTLATCH"], *words, "--server", f"unix:{self.state}/api.sock")

    def until(self, what, look, limit=15):
        """Waits for a state of the server."""
        found = eventually(look, limit)
        assert found, f"{what}: not within {limit} s"
        return found

    def log(self):
        return self.program.text()

    def close(self):
        self.ended.set()
        for machine in self.machines:
            machine.close()
        for server in self.servers:
            server.close()
        self.lan.close()
