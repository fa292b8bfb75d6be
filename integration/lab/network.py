"""A LAN for each lab: three network namespaces around one bridge. The host's own network is not touched."""

import itertools
import os
import re

from .namespaces import Namespaces
from .process import LabError, run, tool

PREFIX = "blab"
DHCP_ADDRESS = "10.77.0.1"  # the existing DHCP server of the LAN
APPLIANCE_ADDRESS = "10.77.0.2"
_count = itertools.count(1)


def _alive(pid):
    return os.path.exists(f"/proc/{pid}")


def sweep():
    """Deletes the namespaces of labs that were killed before they could do it."""
    for line in run(tool("ip"), "netns", "list").splitlines():
        name = line.split()[0]
        owner = re.fullmatch(PREFIX + r"-(\d+)-\d+-\w+", name)
        if owner and not _alive(owner.group(1)):
            run(tool("ip"), "netns", "delete", name)


class Network(Namespaces):
    """The LAN. The namespace `switch` has the bridge and the taps of the machines; `dhcp` and `appliance` have one server each."""

    def __init__(self):
        super().__init__(f"{PREFIX}-{os.getpid()}-{next(_count)}")
        self._taps = self._clients = 0
        try:
            self._make()
        except LabError:
            self.close()
            raise

    def _make(self):
        self.switch, self.dhcp, self.appliance = (self.space(role) for role in ("sw", "dhcp", "app"))
        self.ip(self.switch, "link", "add", "br0", "type", "bridge", "stp_state", "0",
                "forward_delay", "0", "mcast_snooping", "0")
        self.ip(self.switch, "link", "set", "br0", "up")
        self.join(self.dhcp, DHCP_ADDRESS)
        self.join(self.appliance, APPLIANCE_ADDRESS)

    def join(self, space, address=None, interface="lan0"):
        """Connects a namespace to the bridge with an interface of this name, and an address if one is given."""
        port = space.rsplit("-", 1)[1] + ("" if interface == "lan0" else f"-{interface}")
        self.ip(self.switch, "link", "add", port, "type", "veth", "peer", "name", interface, "netns", space)
        self.ip(self.switch, "link", "set", port, "master", "br0", "up")
        if address:
            self.ip(space, "address", "add", f"{address}/24", "dev", interface)
        self.ip(space, "link", "set", interface, "up")

    def add_client(self):
        """Adds a namespace on the LAN whose interface has no address yet; returns its name."""
        self._clients += 1
        space = self.space(f"cli{self._clients}")
        self.join(space)
        return space

    def tap(self):
        """Adds a tap for one machine in the namespace `switch`; returns its name."""
        self._taps += 1
        name = f"tap{self._taps}"
        self.ip(self.switch, "tuntap", "add", name, "mode", "tap")
        self.ip(self.switch, "link", "set", name, "master", "br0", "up")
        return name
