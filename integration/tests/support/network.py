"""Network namespaces: a private one for the test process, and sockets in others."""

import contextlib
import ctypes
import os
import subprocess

from support.waiting import eventually

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


_host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(function, *arguments):
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")


@contextlib.contextmanager
def _restored():
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _call(_libc.setns, before, CLONE_NEWNET)
        os.close(before)


def ip(*words):
    """Runs `ip` in the current network namespace and returns its output."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(map(str, words))}: {done.stderr.strip()}"
    return done.stdout


@contextlib.contextmanager
def private_network():
    """Moves the calling thread into a new network namespace with loopback up, and back at the end.

    Threads and programs started inside belong to the new namespace. The namespace ends with the last of them.
    """
    with _restored():
        _call(_libc.unshare, CLONE_NEWNET)
        ip("link", "set", "lo", "up")
        # Every address of this network (RFC 5737) is local, so each can be the source of a machine's request.
        ip("address", "add", "192.0.2.1/24", "dev", "lo")
        yield


@contextlib.contextmanager
def host_network():
    """Moves the calling thread into the network of the machine, for downloads, and back at the end."""
    with _restored():
        _call(_libc.setns, _host, CLONE_NEWNET)
        yield


def connect_from_host_address():
    """Makes connections to 127.0.0.1 that bind no address come from 192.0.2.1, which a host may have."""
    ip("route", "replace", "local", "127.0.0.1", "dev", "lo", "table", "local", "proto", "kernel", "scope", "host", "src", "192.0.2.1")


class Peer:
    """A network namespace at the other end of a wire from the caller's. It ends with `close`."""

    def __init__(self, near, far, address):
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        pid = str(self.process.pid)
        own = os.readlink("/proc/thread-self/ns/net")
        assert eventually(lambda: os.readlink(f"/proc/{pid}/ns/net") != own), "the peer has a network namespace"
        self.inside = ["nsenter", "-t", pid, "-n"]
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", pid)
        ip("address", "add", address, "dev", near)
        ip("link", "set", near, "up")
        self.run("ip", "link", "set", far, "up")

    def run(self, *words):
        """Runs a command in the peer's namespace and returns the finished process."""
        return subprocess.run([*self.inside, *words], capture_output=True, text=True)

    def close(self):
        self.process.kill()
        self.process.wait()
