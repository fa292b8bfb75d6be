"""Programs that log to a syslog receiver, and what is then in the timelines."""

import json
import socket
import subprocess

from support.lan import socket_in, tool
from support.provisioned_lan import OURS
from support.waiting import eventually

SYSLOG = '[syslog]\nenabled = true\n'


def logger(machine, *words, expected=0):
    """Logs over the network with util-linux's logger."""
    done = subprocess.run(machine.lan.inside(machine.space, tool("logger"), "--server", OURS, "--port", "514", *words),
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == expected, done


def datagrams(machine, *lines):
    """Sends lines as UDP datagrams, as they are."""
    with socket_in(machine.space, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for line in lines:
            sender.sendto(line if isinstance(line, bytes) else line.encode(), (OURS, 514))


def connection(machine):
    """Opens a TCP connection to the receiver."""
    stream = socket_in(machine.space, socket.AF_INET, socket.SOCK_STREAM)
    stream.settimeout(10)
    stream.connect((OURS, 514))
    return stream


def stream(machine, data):
    """Sends bytes over a TCP connection of their own."""
    with connection(machine) as sender:
        sender.sendall(data)


def entries(box, name):
    """Returns the entries of a host's timeline that its installer said."""
    return [entry for entry in box.api("GET", f"/api/v1/namespaces/default/baremetalhosts/{name}/timeline")[1]["items"]
            if entry["event"] == "installer"]


def said(box, name, *fragments):
    """Waits until a host's timeline has a line with these fragments; returns its details."""
    def look():
        found = [entry["detail"] for entry in entries(box, name)]
        return next((one for one in found if all(part in json.dumps(one, ensure_ascii=False) for part in fragments)), None)
    found = eventually(look, 10)
    assert found, f"{name}'s timeline has {fragments}: {[entry['detail'] for entry in entries(box, name)][-20:]}"
    return found
