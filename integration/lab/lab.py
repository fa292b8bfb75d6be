"""A lab: a LAN with its DHCP server, the bootlatch server and machines. Closing it removes all of them."""

import json
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from . import dhcp
from .appliance import Appliance
from .machine import Machine
from .network import Network

_open = set()
_open_lock = threading.Lock()
HOSTNAME = "lab-node"
IGNITION = {"ignition": {"version": "3.3.0"},
            "storage": {"files": [{"path": "/etc/hostname", "mode": 0o644,
                                   "contents": {"source": f"data:,{HOSTNAME}"}}]}}


class Lab:
    """Use as a context manager. `kit` has the built parts: binary, firmware folder, ISO, accelerator."""

    def __init__(self, kit, name, dhcp_server="dnsmasq"):
        self.kit, self.name, self.dhcp_server = kit, name, dhcp_server
        self.folder = Path(tempfile.mkdtemp(prefix="blab-", dir="/var/tmp"))
        self.folder.chmod(0o755)  # bootlatch reads its ISO here after it has dropped root
        self.network = self.appliance = None
        self.programs, self.machines = [], []
        with _open_lock:
            _open.add(self)

    def __enter__(self):
        try:
            self.network = Network()
            self.programs.append(dhcp.SERVERS[self.dhcp_server](self.network, self.folder))
            self.appliance = Appliance(self.network, self.folder, self.kit.binary, self.kit.firmware)
        except BaseException:
            self.close(failed=True)
            raise
        return self

    def __exit__(self, kind, _value, _trace):
        self.close(failed=kind is not None)

    def serve(self, rule="install lab lab-config", *options):
        """Starts bootlatch, and adds the lab's ISO as `lab` and its config as `lab-config`."""
        self.appliance.start(rule, *options)
        config = self.folder / "config.ign"
        if not config.exists():
            config.write_text(json.dumps(IGNITION))
            self.appliance.command("config", "add", "lab-config", str(config), "--format", "ignition")
            self.appliance.command("iso", "add", "lab", str(self.kit.iso), "--config", "lab-config")

    def machine(self, firmware, rom="2025"):
        """Adds a blank machine. `rom` is the boot ROM of its network interface under BIOS: Debian 13's of 2025, or QEMU's own."""
        number = len(self.machines) + 1
        machine = Machine(f"{firmware}{number}", firmware, f"52:54:00:77:00:{number:02x}", self.folder,
                          self.kit.accelerator, self.kit.rom if rom == "2025" else None)
        self.machines.append(machine)
        return machine

    def close(self, failed=False):
        with _open_lock:
            if self not in _open:
                return
            _open.discard(self)
        for machine in self.machines:
            if failed and machine.qmp:
                _quietly(machine.screenshot, self.folder / f"{machine.name}.png")
            _quietly(machine.power_off)
        if self.appliance and self.appliance.server:
            _quietly(self.appliance.kill)
        for program in self.programs:
            _quietly(program.stop)
        if self.network:
            _quietly(self.network.close)
        if failed:
            self._keep_logs()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep_logs(self):
        kept = self.kit.failures / self.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for file in self.folder.iterdir():
            if file.suffix in (".log", ".console", ".png"):
                shutil.copy(file, kept)
        print(f"  logs of {self.name}: {kept}", file=sys.stderr, flush=True)


def _quietly(action, *arguments):
    """Runs one part of the clean-up; prints its error instead of raising it."""
    try:
        action(*arguments)
    except Exception as why:  # noqa: BLE001 - each remaining part must still be cleaned
        print(f"  clean-up: {why}", file=sys.stderr, flush=True)


def close_all():
    """Closes every open lab, of all threads."""
    with _open_lock:
        labs = list(_open)
    for lab in labs:
        lab.close(failed=True)


def exit_on_signals():
    """Turns the signals that end a program into an exit that runs every `finally`."""
    def leave(number, _frame):
        raise SystemExit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
