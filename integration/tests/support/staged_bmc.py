"""BMCs of staged machines, next to the DHCP server."""

from support import management_controllers
from support.bmc_hosts import bmc
from support.fake_redfish import FakeRedfish
from support.objects import HOSTS

BMC = "10.88.0.4"

# A driver of sushy-tools says so if a machine cannot be switched, or told its boot device, now; its fake driver never does.
IN_POST = """
import os
from sushy_tools import error
from sushy_tools.emulator.resources.systems.fakedriver import FakeDriver
switch = FakeDriver.set_power_state
def set_power_state(self, identity, state):
    if os.path.exists('in-post'):
        raise error.FishyError('the system is in POST', 409)
    switch(self, identity, state)
FakeDriver.set_power_state = set_power_state
tell = FakeDriver.set_boot_device
def set_boot_device(self, identity, source):
    if os.path.exists('no-boot-device'):
        raise error.FishyError('the system is in POST', 409)
    tell(self, identity, source)
FakeDriver.set_boot_device = set_boot_device
"""


def add_address(lan):
    """Gives the BMCs' address to the namespace of the DHCP server."""
    with_address = f"{BMC}/{lan.prefix}"
    if with_address not in lan.ip(lan.dhcp_space, "address", "show", "dev", "lan0"):
        lan.ip(lan.dhcp_space, "address", "add", with_address, "dev", "lan0")


def add_emulator(machine, port):
    """Starts sushy-tools' Redfish emulator as the machine's BMC. Returns the file that keeps the machine in its self-test."""
    lan = machine.lan
    add_address(lan)
    folder = lan.folder / f"emulator-{port}"
    folder.mkdir()
    in_post = folder / "in-post"
    words = management_controllers.emulator_command(folder, BMC, port, before=IN_POST)
    lan.lan.start(lan.dhcp_space, f"emulator-{port}", "env", "-C", str(folder), *words).says("Running on")
    lan.change(HOSTS, machine.name, bmc=bmc(f"redfish+http://{BMC}:{port}"))
    return in_post


def add_bmc(machine, port, password="password", **how):
    """Starts a BMC next to the DHCP server, and gives it to the host."""
    lan = machine.lan
    add_address(lan)
    controller = FakeRedfish(lan.dhcp_space, BMC, port, **how)
    lan.servers.append(controller)
    lan.change(HOSTS, machine.name, bmc={**bmc(f"redfish+http://{BMC}:{port}"), "password": password})
    return controller
