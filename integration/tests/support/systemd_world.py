"""A real systemd as PID 1 of its own namespaces, with the appliance as a unit of it, on the interface lan0 of a LAN."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from support.dhcp_appliance import OURS
from support.lan import Failure, tool, until
from support.programs import ROOT, bootlatch

SCRIPT = Path(__file__).with_name("systemd_world.sh")
PROGRAMS = ("undionly.kpxe", "snponly.efi", "ipxe-arm64.efi")


def tree(suite="trixie", packages=()):
    """Returns the tree of a Debian suite with more packages, which is made at the first call of all."""
    done = subprocess.run([str(ROOT / "integration/setup/systemd-tree"), suite, *packages], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class SystemdWorld:
    """The unit is installed as the documentation says, and not started. `/test` is the LAN's folder.

    `space`: a namespace for a systemd without the unit, as of a machine's live system.
    """

    suite = "trixie"
    packages = ()

    def __init__(self, lan, space=None):
        self.lan = lan
        self.space = space or lan.client("srv", address=f"{OURS}/24")
        self.name = lan.folder.name
        self.init = lan.start(self.space, "init", "bash", str(SCRIPT), tree(self.suite, self.packages), str(lan.folder), str(self.program()),
                              self.name)
        self.pid = until("systemd is started", self.first_child, 30)
        until("systemd is up", lambda: self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"), 60)
        if space is None:
            self.install()

    def program(self):
        """Returns the binary that is /usr/bin/bootlatch."""
        return bootlatch()

    def first_child(self):
        """Returns the PID of systemd, once it is in its own root."""
        if self.init.process.poll() is not None:
            raise Failure(f"systemd did not start: {self.init.text()}")
        path = Path(f"/proc/{self.init.process.pid}/task/{self.init.process.pid}/children")
        children = path.read_text().split() if path.exists() else []
        return children[0] if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd" else None

    def run(self, *command, check=True, text=None):
        """Runs a command in the world; returns what it prints."""
        inside = ["nsenter", "-t", self.pid, "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "env", "-i", "TERM=dumb", "HOME=/root",
                  "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command]
        done = subprocess.run(inside, input=text, capture_output=True, text=True, timeout=90)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        self.code = done.returncode
        return done.stdout + done.stderr

    def install(self):
        """Installs the unit, its user and boot programs."""
        for source, target in (("bootlatch.service", "usr/lib/systemd/system"), ("bootlatch.sysusers", "usr/lib/sysusers.d/bootlatch.conf")):
            shutil.copy(ROOT / "systemd" / source, self.lan.folder)
            self.run("cp", f"/test/{source}", f"/{target}")
        self.run("systemd-sysusers")
        self.run("mkdir", "-p", "/usr/share/bootlatch/firmware", "/etc/bootlatch")
        for program in PROGRAMS:
            self.run("cp", "/etc/os-release", f"/usr/share/bootlatch/firmware/{program}")
        self.run("systemctl", "daemon-reload")

    def write(self, path, text, mode="644"):
        """Writes a file, with its directories."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat > "$0" && chmod "$1" "$0"', path, mode, text=text)

    def drop_in(self, text):
        """Replaces the drop-in of the unit; without a text there is none."""
        folder = "/etc/systemd/system/bootlatch.service.d"
        self.run("rm", "-rf", folder)
        if text:
            self.write(f"{folder}/test.conf", f"[Service]\n{text}")
        self.systemctl("daemon-reload")

    def threads(self):
        """Returns the threads of the service by their names, with their IDs on this machine."""
        found = {}
        for status in Path("/proc").glob("[0-9]*/status"):
            fields = dict(line.split(":\t", 1) for line in status.read_text(errors="replace").splitlines() if ":\t" in line)
            inner = fields.get("NSpid", "").split()
            if fields.get("Name") == "bootlatch" and len(inner) > 1 and inner[-1] == self.show("MainPID")["MainPID"] and self.has(status.parent):
                for task in (status.parent / "task").iterdir():
                    found[(task / "comm").read_text().strip()] = int(task.name)
        return found

    def has(self, process):
        """Returns whether a process of this machine runs in the world."""
        return os.readlink(process / "ns/pid") == os.readlink(f"/proc/{self.pid}/ns/pid")

    def configure(self, text='interface = "lan0"\n'):
        self.run("sh", "-c", "cat > /etc/bootlatch/bootlatch.toml", text=text)

    def systemctl(self, *words, check=True):
        return self.run("systemctl", *words, check=check)

    def show(self, *names):
        """Returns properties of the unit."""
        lines = self.systemctl("show", "bootlatch", *[f"--property={name}" for name in names]).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def status_text(self):
        return self.show("StatusText")["StatusText"]

    def says(self, words, limit=20):
        """Waits until the status of the unit has these words."""
        until(f"{words!r} in the status", lambda: words in self.status_text(), limit)

    def journal(self):
        return self.run("journalctl", "-u", "bootlatch", "-o", "cat", "--no-pager")

    def logged(self, words, limit=20):
        until(f"{words!r} in the journal", lambda: words in self.journal(), limit)

    def ready(self):
        """Returns the status code and the text of /readyz over the local socket."""
        socket = f"/proc/{self.pid}/root/var/lib/bootlatch/api.sock"
        done = subprocess.run([tool("curl"), "-s", "-m", "10", "-w", "\n%{http_code}", "--unix-socket", socket, "http://x/readyz"], capture_output=True, text=True)
        text, _, code = done.stdout.rpartition("\n")
        return int(code or 0), text

    def ask(self, path):
        """Returns an answer of the API over the local socket."""
        socket = f"/proc/{self.pid}/root/var/lib/bootlatch/api.sock"
        done = subprocess.run([tool("curl"), "-s", "-m", "10", "--unix-socket", socket, f"http://x{path}"], capture_output=True, text=True)
        return json.loads(done.stdout)

    def close(self):
        os.kill(int(self.pid), 9)
        self.init.process.wait(30)
        groups = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2")
        for group in sorted(Path(groups, self.name).glob("**/"), key=lambda path: -len(path.parts)):
            until(f"{group} is empty", lambda group=group: removed(group), 30)


def removed(group):
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True
