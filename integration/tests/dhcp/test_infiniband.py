"""Machines whose boot network is InfiniBand: FlexBoot and iPXE with an Ethernet-like address, others with none (RFC 4390)."""

import socket

import pytest

from support.dhcp_appliance import OURS, SUBNETS, Appliance
from support.dhcp_wire import ACK, BROADCAST, DISCOVER, INFINIBAND, INFINIBAND_WITHOUT_ADDRESS, REQUEST, Client, pxe
from support.infiniband import Fabric
from support.lan import until

PORT = "e4:1d:2d:f8:f0:0c"
GUID = bytes.fromhex("e41d2d0300f8f00c")
SYSTEM = (61, bytes.fromhex("ff00000000000200000200000012345678"))
OTHER_SYSTEM = (61, bytes.fromhex("ff00000000000200000200000012345679"))
WITH_GUID = (61, bytes.fromhex("ff000000000002000002c900") + GUID)
SERVER = '[dhcp]\nmode = "server"\n' + SUBNETS
FILE = "e4-1d-2d-f8-f0-0c/snponly.efi"


@pytest.fixture(scope="module")
def proxy(lan):
    bridge = lan.bridge("ibproxy")
    return Appliance(lan, lan.client("srv-proxy", bridge=bridge, address=f"{OURS}/24"), "")


@pytest.fixture(scope="module")
def server(lan):
    bridge = lan.bridge("ibserver")
    return Appliance(lan, lan.client("srv-server", bridge=bridge, address=f"{OURS}/24"), SERVER)


def ask(lan, bridge, kind, options, hardware, **more):
    """Sends a message through the gateway between Ethernet and the fabric; returns the first reply."""
    space = lan.client(f"ib{next(lan.count)}", bridge=bridge)
    with Client(space, PORT) as client:
        client.send(kind, options, flags=BROADCAST, hardware=hardware, **more)
        return client.reply(wait=3)


@pytest.mark.parametrize("hardware, options", [(INFINIBAND, []), (INFINIBAND_WITHOUT_ADDRESS, [WITH_GUID])],
                         ids=["FlexBoot", "client identifier with the GUID"])
def test_a_rom_is_told_its_boot_file_by_a_proxy(lan, proxy, hardware, options):
    offer = ask(lan, "ibproxy", DISCOVER, [*pxe(7), *options], hardware)
    assert offer and offer.file == FILE, f"the file of the port's address: {offer and offer.file}"
    assert offer.hardware == hardware and offer.chaddr == (bytes.fromhex(PORT.replace(":", "")) if hardware[1] else bytes(6)), \
        f"the reply has the client's own hardware type: {offer.hardware} {offer.chaddr}"


def test_a_client_without_a_name_is_counted_by_a_proxy(lan, proxy):
    before = proxy.metrics()
    assert ask(lan, "ibproxy", DISCOVER, [*pxe(7), SYSTEM], INFINIBAND_WITHOUT_ADDRESS) is None
    dropped = proxy.dropped_since(before, "dhcp")
    assert dropped == {"no_hardware_address": 1}, f"its boot program could not say who it is: {dropped}"


def test_a_rom_gets_address_and_boot_file_from_a_server(lan, server):
    offer = ask(lan, "ibserver", DISCOVER, pxe(7), INFINIBAND)
    assert offer and offer.yiaddr.startswith("10.88.0.1") and offer.file == FILE and offer.hardware == INFINIBAND, \
        f"address and file, with the hardware type of InfiniBand: {offer and offer.options}"
    assert PORT.replace(":", "-") in server.command("host", "list"), "the machine is in the host list by its Ethernet-like address"


def test_systems_are_told_apart_by_their_client_identifiers(lan, server):
    leased = {}
    for name, identifier in (("one", SYSTEM), ("other", OTHER_SYSTEM)):
        offer = ask(lan, "ibserver", DISCOVER, [identifier], INFINIBAND_WITHOUT_ADDRESS)
        assert offer and offer.hardware == INFINIBAND_WITHOUT_ADDRESS and offer.options[61] == identifier[1], f"{offer and offer.options}"
        take = [identifier, (50, socket.inet_aton(offer.yiaddr)), (54, socket.inet_aton(OURS))]
        ack = ask(lan, "ibserver", REQUEST, take, INFINIBAND_WITHOUT_ADDRESS)
        assert ack and ack.kind == ACK and ack.yiaddr == offer.yiaddr, f"the lease is acknowledged: {ack and ack.options}"
        leased[name] = ack.yiaddr
    assert leased["one"] != leased["other"], f"each has an address of its own: {leased}"
    row = until("the lease is in dhcp.leases", lambda: server.leases().get(leased["one"]))
    assert row[4].replace(":", "") == SYSTEM[1].hex(), f"by its client identifier: {row}"
    again = ask(lan, "ibserver", DISCOVER, [SYSTEM], INFINIBAND_WITHOUT_ADDRESS)
    assert again.yiaddr == leased["one"], "a client that returns gets its address again"


def test_server_mode_on_an_infiniband_interface(own_lan):
    space = own_lan.space("srv")
    fabric = Fabric(own_lan, space, OURS)
    try:
        Appliance(own_lan, space, SERVER, interface="ib0")
        for hardware, mac, options in ((INFINIBAND, PORT, pxe(7)), (INFINIBAND_WITHOUT_ADDRESS, PORT, [SYSTEM])):
            offer, to = fabric.ask(DISCOVER, options, mac, flags=BROADCAST, hardware=hardware)
            assert offer and offer.yiaddr.startswith("10.88.0.1") and to == "255.255.255.255", f"{hardware} is answered by broadcast: {offer} {to}"
            taken = [*options, (50, socket.inet_aton(offer.yiaddr)), (54, socket.inet_aton(OURS))]
            ack, _ = fabric.ask(REQUEST, taken, mac, flags=BROADCAST, hardware=hardware)
            assert ack and ack.kind == ACK, f"{hardware} gets its lease: {ack}"
    finally:
        fabric.close()
