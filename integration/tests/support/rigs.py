"""Runs of `bootlatch rig` as an unprivileged user, and what is left of them."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from support.waiting import eventually, slowness

USER = 64990  # no user has it: every process that runs as it is of these tests
PATH = "/usr/local/bin:/usr/bin:/bin"
MENU = """
kind: Rig
server: |
  unknown_hosts = "menu"
machines:
- {name: vm1, memory_mib: 256, disks: [{id: d0, size_gib: 1}]}
"""


@dataclass
class RigUser:
    """Whoever runs rigs in a folder that belongs to it, with copies of the program, its boot programs and the lab's ISO."""

    folder: Path
    uid: int = USER

    def command(self, *words):
        as_user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--no-new-privs"] if self.uid else []
        return [*as_user, "env", "-i", f"PATH={PATH}", f"HOME={self.folder}", str(self.folder / "bootlatch"), "rig", *map(str, words)]

    def write(self, name, text):
        """Writes a specification; returns its path."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, verb, spec, output, *options, **how):
        """Starts a rig, and returns its process."""
        firmware = [] if "--firmware-dir" in options else ["--firmware-dir", self.folder / "firmware"]
        command = self.command(verb, spec, "--output", output, *firmware, *options)
        return subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)

    def run(self, verb, spec, output, *options, limit=600):
        """Runs a rig to its end; returns its exit status and what it printed."""
        process = self.start(verb, spec, output, *options)
        try:
            printed, _ = process.communicate(timeout=limit * slowness())
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the rig ends: {process.communicate()[0]}") from None
        return process.returncode, printed

    def ask(self, output, *words, **how):
        """Runs a command for a running rig."""
        return subprocess.run(self.command(*words, "--output", output), cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60 * slowness(), **how)


def living(uid):
    """Returns the command lines of the living processes of a user. A dead one that nobody waited for has none."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid and (line := (entry / "cmdline").read_bytes()):
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def sockets_below(folder):
    """Returns the sockets and FIFOs that are left below a folder."""
    return [path for path in Path(folder).rglob("*") if path.is_socket() or path.is_fifo()]


def assert_nothing_left(user):
    """Checks that no process, namespace or socket of a rig is left."""
    assert eventually(lambda: not living(user.uid), 20), f"no process is left: {living(user.uid)}"
    assert not sockets_below(user.folder), f"no socket is left: {sockets_below(user.folder)}"
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if line.startswith("rig ")]
    assert not mounts, f"no mount is left: {mounts}"


def read_until(process, text, limit=120):
    """Reads a rig's output up to a line with a text; returns what was read."""
    end, read = time.monotonic() + limit * slowness(), []
    for line in process.stdout:
        read.append(line)
        if text in line:
            return "".join(read)
        assert time.monotonic() < end, f"{text!r} is printed: {read}"
    raise AssertionError(f"{text!r} is printed: {''.join(read)}")
