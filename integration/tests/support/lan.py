"""Network namespaces joined by bridges, and programs that run in them and end with the test."""

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.namespaces import Namespaces
from lab.process import LabError as Failure
from lab.process import WITH_PARENT, run, tool
from support.waiting import eventually, slowness

PREFIX = "blan"
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def until(what, look, limit=15):
    """Waits for a state and returns what `look` found; fails with the state's name after `limit` seconds."""
    found = eventually(look, limit)
    assert found, f"{what}: not within {limit} s"
    return found


def enter(space):
    """Moves the calling thread into a network namespace, for the rest of its life."""
    with open(f"/run/netns/{space}") as there:
        if _libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {space}")


@contextlib.contextmanager
def entered(space):
    """Has the calling thread in a network namespace within a `with` block."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(space)
        yield
    finally:
        _libc.setns(here, CLONE_NEWNET)
        os.close(here)


def socket_in(space, *arguments):
    """Opens a socket inside a network namespace."""
    with entered(space):
        return socket.socket(*arguments)


class Program:
    """A running program and its log file."""

    def __init__(self, command, log):
        self.log = log
        self.process = subprocess.Popen([*WITH_PARENT, *command], stdin=subprocess.DEVNULL, stdout=open(log, "ab"),
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def text(self):
        path = Path(self.log)
        return path.read_text(errors="replace") if path.exists() else ""

    def says(self, words, limit=15):
        """Waits until the log holds these words."""
        def look():
            if words in self.text():
                return True
            if self.process.poll() is not None:
                raise Failure(f"the program ended with {self.process.returncode}: {self.text()[-2000:]}")
            return False
        until(f"{words!r} in {self.log}", look, limit)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(15 * slowness())
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Lan(Namespaces):
    """A set of namespaces; the namespace `sw` holds the bridges."""

    def __init__(self, *bridges):
        self.count = itertools.count()
        self.programs = []
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
        self.folder.chmod(0o755)
        super().__init__(self.folder.name)  # mkdtemp makes it unique
        self.switch = self.space("sw")
        for bridge in bridges:
            self.bridge(bridge)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def bridge(self, name):
        self.ip(self.switch, "link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0",
                "mcast_snooping", "0")
        self.ip(self.switch, "link", "set", name, "up")
        return name

    def join(self, space, bridge, address=None, interface="lan0", mac=None):
        """Connects a namespace to a bridge."""
        port = f"p{next(self.count)}"
        self.ip(self.switch, "link", "add", port, "type", "veth", "peer", "name", interface, "netns", space)
        # No offloading: careful clients drop a packet whose checksum nobody filled in.
        run(tool("ip"), "netns", "exec", space, tool("ethtool"), "-K", interface, "tx", "off", check=False)
        self.ip(self.switch, "link", "set", port, "master", bridge, "up")
        if mac:
            self.ip(space, "link", "set", interface, "address", mac)
        if address:
            self.ip(space, "address", "add", address, "dev", interface)
        self.ip(space, "link", "set", interface, "up")
        # The bridge drops frames until the kernel has noticed the carrier, which takes a while on a busy machine.
        until(f"{port} forwards", lambda: "state forwarding" in self.ip(self.switch, "-d", "link", "show", "dev", port))

    def client(self, name, bridge="br0", mac=None, address=None):
        """Adds a namespace on a bridge and returns its full name."""
        space = self.space(name)
        self.join(space, bridge, address, mac=mac)
        return space

    def start(self, space, name, *command):
        """Starts a program in a namespace."""
        program = Program(self.inside(space, *command), self.folder / f"{name}-{next(self.count)}.log")
        self.programs.append(program)
        return program

    def close(self):
        for program in reversed(self.programs):
            program.stop(signal.SIGKILL)
        super().close()
        if "KEEP" in os.environ:
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
