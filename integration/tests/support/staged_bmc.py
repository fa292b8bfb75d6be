"""BMCs of staged machines, next to the DHCP server."""

from support.bmc_hosts import bmc
from support.fake_redfish import FakeRedfish
from support.objects import HOSTS

BMC = "10.88.0.4"


def add_bmc(machine, port, password="password", **how):
    """Starts a BMC next to the DHCP server, and gives it to the host."""
    lan = machine.lan
    with_address = f"{BMC}/{lan.prefix}"
    if with_address not in lan.ip(lan.dhcp_space, "address", "show", "dev", "lan0"):
        lan.ip(lan.dhcp_space, "address", "add", with_address, "dev", "lan0")
    controller = FakeRedfish(lan.dhcp_space, BMC, port, **how)
    lan.servers.append(controller)
    lan.change(HOSTS, machine.name, bmc={**bmc(f"redfish+http://{BMC}:{port}"), "password": password})
    return controller
