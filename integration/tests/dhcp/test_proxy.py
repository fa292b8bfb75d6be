"""Proxy mode alongside the LAN's own DHCP server."""

import pytest

from support.dhcp_appliance import MAC, OURS, Appliance
from support.dhcp_clients import udhcpc
from support.lan import Lan
from support.dhcp_servers import dnsmasq, kea
from support.dhcp_wire import ACK, BROADCAST, DISCOVER, REQUEST, Client, pxe

FILE = "52-54-00-88-00-01/snponly.efi"


def start_dnsmasq(lan, space):
    return dnsmasq(lan, space, "--no-ping", "--dhcp-range=10.88.0.200,10.88.0.220,1h")


@pytest.fixture(scope="module", params=[("dnsmasq", start_dnsmasq), ("Kea", kea)], ids=["dnsmasq", "kea"])
def lan(request):
    """A LAN with another DHCP server at 10.88.0.1 and bootlatch in proxy mode."""
    name, start = request.param
    with Lan("br0") as lan:
        lan.other = name
        start(lan, lan.client("other", address="10.88.0.1/24"))
        Appliance(lan, lan.client("srv", address=f"{OURS}/24"), "")
        yield lan


def test_pxe_firmware_gets_its_address_from_the_other_and_its_boot_file_from_us(lan):
    space = lan.client("pxe", mac=MAC.format(1))
    with Client(space, MAC.format(1)) as client:
        client.send(DISCOVER, pxe(7), flags=BROADCAST)
        offers = {offer.source: offer for offer in client.replies(wait=5, enough=lambda found: len(found) > 1)}
        assert sorted(offers) == ["10.88.0.1", OURS], f"alongside {lan.other}: PXE firmware gets two offers: {sorted(offers)}"
        theirs, ours = offers["10.88.0.1"], offers[OURS]
        assert theirs.yiaddr.startswith("10.88.0.2") and theirs.file == "" and ours.yiaddr == "0.0.0.0" and ours.file == FILE, \
            f"alongside {lan.other}: the address is {lan.other}'s, the boot file ours"
        address = theirs.yiaddr
        at_4011 = {"ciaddr": address, "source": (address, 4011), "to": (OURS, 4011)}
        # The first request makes the server resolve an address that no interface has yet.
        client.send(REQUEST, pxe(7), **at_4011)
        lan.ip(space, "address", "add", f"{address}/24", "dev", "lan0")
        client.send(REQUEST, pxe(7), **at_4011)
        ack = client.reply()
    assert ack and ack.kind == ACK and ack.file == FILE, f"alongside {lan.other}: port 4011 returns the boot file again"


def test_a_client_that_does_not_boot_is_left_to_the_other(lan):
    with Client(lan.client("plain", mac=MAC.format(2)), MAC.format(2)) as client:
        client.send(DISCOVER, [], flags=BROADCAST)
        sources = [offer.source for offer in client.replies(wait=2)]
    assert sources == ["10.88.0.1"], f"alongside {lan.other}: a client that does not boot gets no reply from us: {sources}"
    received = udhcpc(lan, lan.client("udh", mac=MAC.format(3)))
    assert received.get("serverid") == "10.88.0.1", f"alongside {lan.other}: udhcpc gets its address from {lan.other}: {received}"
