"""ProxyDHCP next to another DHCP server on the same machine and interface: both answer, whoever starts first."""

import contextlib

import pytest

from lab.machine import Machine
from support.dhcp_appliance import MAC, OURS, Appliance
from support.dhcp_clients import udhcpc
from support.dhcp_servers import dnsmasq, kea
from support.dhcp_wire import ACK, BROADCAST, DISCOVER, REQUEST, Client, pxe
from support.lan import Lan, tool, until

RANGE = "--dhcp-range=10.88.0.200,10.88.0.220,1h"
# dnsmasq has port 67, and as a boot server port 4011. Kea reads packets, and has port 67 besides.
OTHERS = {
    "dnsmasq": lambda lan, space: dnsmasq(lan, space, "--no-ping", RANGE),
    "dnsmasq-on-all-addresses": lambda lan, space: plain_dnsmasq(lan, space, "--no-ping", RANGE),
    "dnsmasq-with-4011": lambda lan, space: dnsmasq(lan, space, "--no-ping", RANGE, "--pxe-service=x86PC,theirs,theirs.0"),
    "kea": kea,
}


def plain_dnsmasq(lan, space, *more):
    """Starts dnsmasq as it is without options for its interfaces: bound to the wildcard address."""
    program = lan.start(space, "dnsmasq", tool("dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--port=0", "--log-dhcp",
                        f"--dhcp-leasefile={lan.folder}/dnsmasq.leases", *more)
    program.says("started")
    return program


@contextlib.contextmanager
def both(other, config, other_first):
    """A LAN with both servers in one namespace, on lan0 with the address OURS."""
    with Lan("br0") as lan:
        space = lan.client("srv", address=f"{OURS}/24")
        if other_first:
            OTHERS[other](lan, space)
            lan.appliance = Appliance(lan, space, config)
        else:
            lan.appliance = Appliance(lan, space, config)
            OTHERS[other](lan, space)
        yield lan


def check_boot(lan, number, file):
    """Has PXE firmware ask; asserts that the address is theirs, the boot file ours, and that 4011 is answered."""
    space = lan.client(f"pxe{number}", mac=MAC.format(number))
    with Client(space, MAC.format(number)) as client:
        client.send(DISCOVER, pxe(7), flags=BROADCAST)
        offers = client.replies(wait=5, enough=lambda found: len(found) > 1)
        theirs, ours = ([offer for offer in offers if (offer.yiaddr == "0.0.0.0") == is_ours] for is_ours in (False, True))
        assert len(theirs) == 1 and file in [offer.file for offer in ours], offers
        address = theirs[0].yiaddr
        assert address.startswith("10.88.0.2"), address
        lan.ip(space, "address", "add", f"{address}/24", "dev", "lan0")
        found = []
        for _ in range(2):
            # The first request makes the server resolve an address that it does not know yet.
            client.send(REQUEST, pxe(7), ciaddr=address, source=(address, 4011), to=(OURS, 4011))
            found += [(ack.kind, ack.file) for ack in client.replies(wait=3, enough=lambda acks: any(ack.file == file for ack in acks))]
    assert (ACK, file) in found, found
    received = udhcpc(lan, lan.client(f"udhcpc{number}", mac=MAC.format(number + 100)))
    assert received.get("ip", "").startswith("10.88.0.2") and "boot_file" not in received, "a client that does not boot is left to the other server"


def file_of(number):
    return f"52-54-00-88-00-{number:02x}/snponly.efi"


@pytest.mark.parametrize("other", OTHERS)
def test_the_other_server_started_first(other):
    with both(other, "", other_first=True) as lan:
        check_boot(lan, 1, file_of(1))
        said = lan.appliance.program.text()
        assert said.count("packet socket in use") == (2 if other == "dnsmasq-with-4011" else 1), said


@pytest.mark.parametrize("other", OTHERS)
def test_the_other_server_starts_later(other):
    with both(other, '[dhcp]\nsocket = "packet"\n', other_first=False) as lan:
        check_boot(lan, 2, file_of(2))


def test_real_firmware_boots():
    """SeaBIOS with QEMU's iPXE ROM: its address is dnsmasq's, and it gets its script."""
    with both("dnsmasq", "", other_first=True) as lan:
        lan.ip(lan.switch, "tuntap", "add", "tap0", "mode", "tap")
        lan.ip(lan.switch, "link", "set", "tap0", "master", "br0", "up")
        lan.tap = lambda: "tap0"
        machine = Machine("pc", "bios", MAC.format(6), lan.folder / "pc")
        try:
            machine.power_on(lan)
            until("the script of a machine without an image is served", lambda: any(entry["event"] == "local_disk" for entry in of_host(lan, 6)), 60)
        finally:
            machine.power_off()
        assert "DHCPACK(lan0) 10.88.0.2" in "".join(program.text() for program in lan.programs), "the address is dnsmasq's"


def of_host(lan, number):
    """Returns the entries of a machine in the timeline."""
    name = MAC.format(number).replace(":", "-")
    return [entry for entry in lan.appliance.timeline() if name in str(entry) or MAC.format(number) in str(entry)]


def test_the_port_is_needed_where_the_configuration_says_so():
    with Lan("br0") as lan:
        space = lan.client("srv", address=f"{OURS}/24")
        server_mode = 'mode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.119"]\n'
        for config in ('socket = "udp"\n', server_mode):
            other = OTHERS["dnsmasq"](lan, space)
            appliance = Appliance(lan, space, f"[dhcp]\n{config}")
            assert "UDP port 67 on lan0 (DHCP): Address already in use" in appliance.program.text()
            assert "UDP port 67 on lan0 (DHCP): Address already in use" in appliance.get("/readyz")
            other.stop()
            until("the port is taken when it is free", lambda: "in use" not in appliance.get("/readyz"), 15)
            appliance.stop()


def test_packets_for_other_machines_are_not_answered():
    """A router forwards what a relay sends to a DHCP server elsewhere: it passes by, and is not ours."""
    with both("dnsmasq", "", other_first=True) as lan:
        with Client(lan.client("relay", mac=MAC.format(9), address="10.88.0.9/24"), MAC.format(9)) as client:
            at_us = {"giaddr": "10.88.0.9", "source": ("10.88.0.9", 67), "to_mac": mac_of(lan, "srv")}
            client.send(DISCOVER, pxe(7), to=("192.0.2.1", 67), **at_us)
            assert [reply.file for reply in client.replies(wait=2)] == []
            client.send(DISCOVER, pxe(7), to=(OURS, 67), **at_us)
            assert file_of(9) in [reply.file for reply in client.replies(wait=3)], "a relay that asks this machine is answered"


def mac_of(lan, name):
    line = next(line for line in lan.ip(f"{lan.folder.name}-{name}", "link", "show", "dev", "lan0").splitlines() if "link/ether" in line)
    return bytes.fromhex(line.split()[1].replace(":", ""))
