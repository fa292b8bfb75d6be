"""Mode off: the documentation's lines for other DHCP servers, used as they are written there."""

import pytest

from support.dhcp_appliance import MAC, OURS, Appliance
from support.lan import run, tool
from support.dhcp_servers import dnsmasq, isc_dhcpd, kea
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe
from support.programs import ROOT

DOCUMENT = ROOT / "docs/guides/existing-dhcp-server.md"
IPXE = [(77, b"iPXE"), (175, bytes([17, 1, 1, 19, 1, 1, 36, 1, 1]))]
CLIENTS = [("BIOS", pxe(0), "undionly.kpxe"), ("UEFI", pxe(7), "snponly.efi"), ("EBC", pxe(9), "snponly.efi"),
           ("arm64", pxe(11), "ipxe-arm64.efi"), ("U-Boot", pxe(22), "ipxe-arm64.efi"),
           ("iPXE on BIOS", pxe(0) + IPXE, f"http://{OURS}/boot.ipxe"),
           ("iPXE on UEFI", pxe(7) + IPXE, f"http://{OURS}/boot.ipxe")]


def documented(server):
    """Returns the documented configuration for a DHCP server, with the address of the test's server."""
    block = DOCUMENT.read_text().split(f"\n{server}:\n```\n", 1)[1].split("\n```", 1)[0]
    return block.replace("192.168.10.2", OURS)


def start_dnsmasq(lan, space):
    path = lan.folder / "dnsmasq.conf"
    path.write_text(documented("dnsmasq"))
    return dnsmasq(lan, space, f"--conf-file={path}", "--no-ping", "--dhcp-range=10.88.0.200,10.88.0.220,1h")


def start_kea(lan, space):
    return kea(lan, space, documented("Kea (in `Dhcp4`)"))


def start_isc_dhcpd(lan, space):
    return isc_dhcpd(lan, space, documented("ISC dhcpd")
                     + "\nping-check false;\nsubnet 10.88.0.0 netmask 255.255.255.0 { range 10.88.0.200 10.88.0.220; }\n")


@pytest.fixture(scope="module")
def box(lan):
    return Appliance(lan, lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "off"\n')


@pytest.fixture(scope="module")
def other(lan):
    """The namespace of the other DHCP server."""
    return lan.client("other", address="10.88.0.1/24")


@pytest.mark.parametrize("start", [start_dnsmasq, start_kea, start_isc_dhcpd], ids=["dnsmasq", "kea", "isc-dhcpd"])
def test_another_server_directs_every_client_to_us(lan, box, other, start):
    server = start(lan, other)
    try:
        with Client(lan.client(f"pxe-{start.__name__}", mac=MAC.format(1)), MAC.format(1)) as client:
            for kind, options, file in CLIENTS:
                client.send(DISCOVER, options, flags=BROADCAST)
                found = [(offer.source, offer.options[67].decode().rstrip("\0") if 67 in offer.options else offer.file, offer.siaddr)
                         for offer in client.replies(wait=3, enough=len)]
                assert found == [("10.88.0.1", file, OURS)], f"{kind} is directed to us: {found}"
    finally:
        server.stop()


def test_no_dhcp_port_is_open(lan, box):
    sockets = run(*lan.inside(box.space, tool("ss"), "-lnu"))
    assert ":69 " in sockets and ":67 " not in sockets, f"mode off: no socket listens on DHCP's ports: {sockets}"
