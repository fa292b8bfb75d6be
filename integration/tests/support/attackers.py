"""Strangers who take what they can: connections, transfers, memory."""

import contextlib
import resource
import socket
import struct
import time

from support.waiting import eventually, slowness

ESTABLISHED = 1


def allow_files(count=30_000):
    """Raises the limit of open files of this process and of the programs that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def state(connection):
    """Returns the TCP state of a socket (tcp(7), TCP_INFO)."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def is_open(connection):
    """Returns whether neither end has closed a connection."""
    return state(connection) == ESTABLISHED


def is_served_still(connection):
    """Returns whether the server's end of a connection is open. The kernel that gives up a client does not tell it."""
    address, port = connection.getsockname()
    client = f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"
    with open("/proc/thread-self/net/tcp") as sockets:
        rows = [line.split() for line in sockets]
    return any(row[2] == client and row[3] == "01" for row in rows)


@contextlib.contextmanager
def connections(count, source, port, address="127.0.0.1"):
    """Opens connections from one address that send nothing, and closes them at the end."""
    held = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((address, port), 10 * slowness(), (source, 0)))
        yield held
    finally:
        for one in held:
            # A reset leaves no port in TIME_WAIT.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()


def settled(held):
    """Returns how many connections are still open once their number no longer changes."""
    open_now = lambda: sum(map(is_open, held))
    last, since = open_now(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.05)
        if (now := open_now()) != last:
            last, since = now, time.monotonic()
    return last


def memory(pid):
    """Returns the resident memory of a process in bytes."""
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def metric(server, name):
    """Returns the value of a metric by its name and labels, or 0."""
    text = server.ask("GET", "/metrics", token=None, source="192.0.2.9").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " "))


def dropped(server, protocol, reason):
    """Returns how many packets or connections were dropped for a reason."""
    return metric(server, f'bootlatch_packets_dropped_total{{protocol="{protocol}",reason="{reason}"}}')


def is_counted(server, protocol, reason):
    """Waits until a drop is counted."""
    return eventually(lambda: dropped(server, protocol, reason) > 0)
