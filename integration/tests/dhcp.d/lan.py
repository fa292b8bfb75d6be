"""Namespaces on bridges, and programs in them that end with the test."""

import ctypes
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PREFIX = "bdhc"
_libc = ctypes.CDLL(None)


def run(*command, check=True, limit=60):
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise Failure(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def tool(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise Failure(f"{name} is not installed")
    return path


def copied(folder, name):
    """A copy of a program: Debian's AppArmor profiles go by path, and forbid the test's files to the original."""
    copy = folder / "bin" / name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(tool(name), copy)
    return str(copy)


class Failure(Exception):
    pass


def until(what, test, limit=15):
    """Waits for a state, and fails with its name where it does not come."""
    end = time.monotonic() + limit
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {limit} s")
        time.sleep(0.02)


class Program:
    def __init__(self, command, log):
        self.log = log
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(log, "ab"),
                                        stderr=subprocess.STDOUT, start_new_session=True,
                                        preexec_fn=lambda: _libc.prctl(1, signal.SIGKILL))

    def text(self):
        return pathlib.Path(self.log).read_text(errors="replace")

    def says(self, words, limit=15):
        def test():
            if words in self.text():
                return True
            if self.process.poll() is not None:
                raise Failure(f"it ended with {self.process.returncode}: {self.text()[-2000:]}")
            return False
        until(f"{words!r} in {self.log}", test, limit)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Lan:
    """A world of namespaces; `sw` holds the bridges."""

    def __init__(self):
        self.id = f"{PREFIX}-{os.getpid()}"
        self.spaces, self.programs, self.count = [], [], itertools.count()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bdhc-"))
        self.folder.chmod(0o755)
        self.switch = self.space("sw")

    def space(self, name):
        space = f"{self.id}-{name}"
        run(tool("ip"), "netns", "add", space)
        self.spaces.append(space)
        self.ip(space, "link", "set", "lo", "up")
        return space

    def bridge(self, name):
        self.ip(self.switch, "link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0",
                "mcast_snooping", "0")
        self.ip(self.switch, "link", "set", name, "up")
        return name

    def join(self, space, bridge, address=None, card="lan0", mac=None):
        port = f"p{next(self.count)}"
        self.ip(self.switch, "link", "add", port, "type", "veth", "peer", "name", card, "netns", space)
        # No offloading: a checksum that nobody filled in is dropped by careful clients.
        run(tool("ip"), "netns", "exec", space, tool("ethtool"), "-K", card, "tx", "off", check=False)
        self.ip(self.switch, "link", "set", port, "master", bridge, "up")
        if mac:
            self.ip(space, "link", "set", card, "address", mac)
        if address:
            self.ip(space, "address", "add", address, "dev", card)
        self.ip(space, "link", "set", card, "up")

    def client(self, name, bridge="br0", mac=None, address=None):
        space = self.space(name)
        self.join(space, bridge, address, mac=mac)
        return space

    def ip(self, space, *arguments):
        return run(tool("ip"), "-n", space, *arguments)

    def inside(self, space, *command):
        return [tool("ip"), "netns", "exec", space, *command]

    def start(self, space, name, *command):
        log = self.folder / f"{name}-{next(self.count)}.log"
        program = Program(self.inside(space, *command), log)
        self.programs.append(program)
        return program

    def close(self):
        for program in reversed(self.programs):
            program.stop(signal.SIGKILL)
        for space in reversed(self.spaces):
            run(tool("ip"), "netns", "delete", space, check=False)
        if "KEEP" in os.environ:
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
