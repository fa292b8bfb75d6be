"""A LAN with an appliance that the doctor looks at: running or stopped."""

import json
import os
import subprocess
import sys

from support.dhcp_appliance import OURS
from support.dhcp_servers import dnsmasq
from support.faked_clock import LIBRARY
from support.lan import tool, until
from support.programs import bootlatch

PROGRAMS = ("undionly.kpxe", "snponly.efi", "ipxe-arm64.efi")
DHCP_SERVER, RIVAL = "10.88.0.1", "10.88.0.3"
HOLD = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM if {udp} else socket.SOCK_STREAM); s.bind(('0.0.0.0', {port})); {udp} or s.listen(); print('held', flush=True); time.sleep(600)"


class DoctorBed:
    """The server's namespace with the interface lan0 at 10.88.0.2, and its files. `has_dhcp`: a DHCP server is on the LAN."""

    def __init__(self, lan, has_dhcp=True):
        self.lan, self.server = lan, None
        self.space = lan.client("srv", address=f"{OURS}/24")
        self.state, self.firmware = lan.folder / "state", lan.folder / "firmware"
        self.file, self.manifests = lan.folder / "bootlatch.toml", lan.folder / "manifests"
        for directory in (self.firmware, self.manifests):
            directory.mkdir()
        for name in PROGRAMS:
            (self.firmware / name).write_bytes(b"program")
        self.configure()
        if has_dhcp:
            dnsmasq(lan, lan.client("dhcp", address=f"{DHCP_SERVER}/24"), "--no-ping", "--dhcp-range=10.88.0.200,10.88.0.220,1h")

    def configure(self, more="", top=""):
        self.file.write_text(f'interface = "lan0"\nuser = "nobody"\nmanifests = "{self.manifests}"\n{top}{more}')

    def restore(self):
        """Stops the server, and takes back what tests did to files."""
        if self.server:
            self.stop()
        for manifest in self.manifests.iterdir():
            manifest.unlink()
        if (self.state / "admin.token").exists():
            (self.state / "admin.token").chmod(0o600)
        self.configure()

    def words(self, *words):
        return [str(bootlatch()), *words, "--config", str(self.file), "--state-dir", str(self.state), "--firmware-dir", str(self.firmware)]

    def start(self):
        """Starts the server, and waits until it has heard the DHCP server if there is one."""
        self.server = self.lan.start(self.space, "bootlatch", *self.words("serve"))
        self.server.says("ready")

    def stop(self):
        self.server.stop()
        self.server = None

    def heard(self):
        """Returns the addresses of the servers that the running server has heard."""
        done = subprocess.run(self.lan.inside(self.space, tool("curl"), "-s", "--unix-socket", f"{self.state}/api.sock", "http://x/api/v1/interfaces"), capture_output=True, text=True)
        return {server["address"] for item in json.loads(done.stdout)["items"] for server in item["servers"]}

    def hears(self, address):
        return until(f"{address} is heard", lambda: address in self.heard())

    def look(self, *words, environment=(), as_user=None):
        """Runs the doctor; returns its exit status and its report."""
        before = ["setpriv", f"--reuid={as_user}", f"--regid={as_user}", "--clear-groups"] if as_user else []
        command = self.lan.inside(self.space, "env", *environment, *before, *self.words("doctor"), "-o", "json", *words)
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
        assert done.stdout, done
        return done.returncode, json.loads(done.stdout)

    def finds(self, *words, **how):
        """Returns the exit status and the codes of the findings, with their subjects."""
        code, report = self.look(*words, **how)
        return code, {finding["code"]: finding for finding in report["findings"]}

    def hold(self, port, udp=True):
        """Has another program take a port."""
        program = self.lan.start(self.space, "holder", sys.executable, "-c", HOLD.format(port=port, udp=udp))
        program.says("held")
        return program

    def nft(self, *words):
        done = subprocess.run(self.lan.inside(self.space, tool("nft"), *words), capture_output=True, text=True)
        assert done.returncode == 0, done

    def sysctl(self, setting):
        done = subprocess.run(self.lan.inside(self.space, tool("sysctl"), "-qw", setting), capture_output=True, text=True)
        assert done.returncode == 0, done

    def iptables(self, *words):
        done = subprocess.run(self.lan.inside(self.space, tool("iptables-legacy"), *words), capture_output=True, text=True)
        assert done.returncode == 0, done

    def certificate(self, name, started, days, names=f"IP:{OURS}"):
        """Makes a certificate for `names` that has been valid since `started` ("-400d") for some days; returns its files."""
        files = self.lan.folder / f"{name}.crt", self.lan.folder / f"{name}.key"
        command = [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-subj", f"/CN={name}", *(["-addext", f"subjectAltName={names}"] if names else []), "-days", str(days), "-out", str(files[0]), "-keyout", str(files[1])]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LD_PRELOAD": LIBRARY, "FAKETIME": started})
        assert done.returncode == 0, done
        return files
