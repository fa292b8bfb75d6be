"""The server and clients at the two ends of a wire that loses, repeats or reorders frames."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from support.iso_uploads import iso_of
from support.lan import Lan, run, until
from support.programs import bootlatch
from support.waiting import slowness

ADDRESS, CLIENT = "10.92.0.1", "10.92.0.2"
MAC = "52:54:00:92:00:02"
PROGRAM, ISO = 300_000, 4 << 20  # octets of the boot program (as snponly.efi) and of the ISO
IQN = "iqn.2026-11.org.bootlatch"
CONFIG = """
user = "root"
unknown_hosts = "localboot"
files_dir = "FOLDER/files"
[dhcp]
mode = "server"
[[dhcp.subnets]]
subnet = "10.92.0.0/24"
pools = ["10.92.0.100-10.92.0.199"]
[iscsi]
access = "any"
"""


class LossyLan:
    """The server behind such a wire, with a boot program, a file and an ISO. Close it at the end."""

    def __init__(self, *impairments, seed=0):
        self.lan = Lan()
        self.folder = self.lan.folder
        self.program, self.iso = os.urandom(PROGRAM), iso_of(ISO, "loss")
        try:
            self.server, self.client = self.lan.space("server"), self.lan.space("client")
            self.link = self.lan.start(self.server, "link", sys.executable, str(Path(__file__).with_name("impaired_link.py")),
                                       self.server, self.client, "--interface", "lan0", "--seed", str(seed), *impairments)
            self.link.says("ready")
            self.lan.ip(self.client, "link", "set", "lan0", "address", MAC)
            for space, address in ((self.server, ADDRESS), (self.client, CLIENT)):
                self.lan.ip(space, "address", "add", f"{address}/24", "dev", "lan0")
                self.lan.ip(space, "link", "set", "lan0", "up")
            self._start_server()
        except BaseException:
            self.lan.close()
            raise

    def _start_server(self):
        for name in ("firmware", "files", "state", "state/isos"):
            (self.folder / name).mkdir()
        for name in ("firmware/snponly.efi", "files/program"):
            (self.folder / name).write_bytes(self.program)
        for name in ("files/live.iso", "state/isos/live.iso"):
            (self.folder / name).write_bytes(self.iso)
        (self.folder / "bootlatch.toml").write_text(CONFIG.replace("FOLDER", str(self.folder)))
        self.bootlatch = self.lan.start(self.server, "bootlatch", str(bootlatch()), "serve", "--config", str(self.folder / "bootlatch.toml"),
                                        "--interface", "lan0", "--state-dir", str(self.folder / "state"),
                                        "--firmware-dir", str(self.folder / "firmware"))
        self.bootlatch.says("ready", 30)
        manifest = self.folder / "live.yaml"
        manifest.write_text("apiVersion: v1\nkind: ISCSICdrom\nmetadata: {name: live}\nspec: {isoFile: live.iso}\n")
        self.command("apply", "-f", str(manifest))
        ready = lambda: json.loads(self.command("iso", "show", "live", "-o", "json"))["status"]["phase"] == "Ready"
        until("the ISO is ready", ready)

    def command(self, *words):
        return run(str(bootlatch()), *words, "--server", f"unix:{self.folder}/state/api.sock")

    @property
    def programs(self):
        """The programs whose logs belong to the report of a failed test."""
        return self.lan.programs

    def fetch(self, name, *command, limit=120):
        """Runs a client that writes to "got"; returns what it got, and the seconds that it took."""
        place = self.folder / f"fetch-{name}"
        place.mkdir()
        start = time.monotonic()
        done = subprocess.run(self.lan.inside(self.client, *command), cwd=place, capture_output=True, text=True, errors="replace",
                              timeout=limit * slowness(), stdin=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        assert done.returncode == 0, f"{command}: {done.stdout[-500:]}{done.stderr[-500:]}"
        return (place / "got").read_bytes(), seconds

    def counts(self):
        """Ends the wire; returns what it did."""
        self.link.stop()
        return json.loads(self.link.text().splitlines()[-1])

    def close(self):
        self.lan.close()
