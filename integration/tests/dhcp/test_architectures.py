"""Boot clients by what they say of their architecture: option 93, the vendor class, or U-Boot's own class."""

import struct

import pytest

from support.dhcp_appliance import MAC, OURS, Appliance
from support.dhcp_wire import BROADCAST, DISCOVER, Client

ASKED = (55, bytes([1, 3, 6, 66, 67]))


def code(architecture):
    return 93, struct.pack("!H", architecture)


@pytest.fixture(scope="module")
def box(lan):
    return Appliance(lan, lan.client("srv", address=f"{OURS}/24"), "")


@pytest.mark.parametrize("number, options, file", [
    (1, [(60, b"U-Boot.armv8"), code(22)], "ipxe-arm64.efi"),
    (2, [(60, b"U-Boot.armv8")], "ipxe-arm64.efi"),
    (3, [(60, b"PXEClient:Arch:00022:UNDI:003000"), code(22)], "ipxe-arm64.efi"),
    (4, [(60, b"PXEClient:Arch:00011:UNDI:003000"), code(11)], "ipxe-arm64.efi"),
    (5, [(60, b"PXEClient:Arch:00007:UNDI:003016")], "snponly.efi"),
    (6, [(60, b"PXEClient")], "undionly.kpxe")],
    ids=["U-Boot", "U-Boot without option 93", "PXE class of U-Boot", "bootefi", "PXE without option 93", "bare PXEClient"])
def test_a_client_is_told_the_program_of_its_architecture(lan, box, number, options, file):
    with Client(lan.client(f"board{number}", mac=MAC.format(number)), MAC.format(number)) as client:
        client.send(DISCOVER, [*options, ASKED], flags=BROADCAST)
        offer = client.reply(wait=5)
    expected = f"52-54-00-88-00-{number:02x}/{file}"
    assert offer and (offer.file, offer.siaddr) == (expected, OURS), f"U-Boot reads the header's file and server: {offer and offer.file}"


def test_the_host_list_names_the_architecture(lan, box):
    with Client(lan.client("named", mac=MAC.format(8)), MAC.format(8)) as client:
        client.send(DISCOVER, [(60, b"U-Boot.armv8"), code(22), ASKED], flags=BROADCAST)
        assert client.reply(wait=5)
    hosts = box.command("host", "list", "-o", "wide")
    assert "arm64-uboot" in hosts, f"the host list shows what the board is: {hosts}"


def test_a_board_of_an_unknown_kind_is_told_nothing_and_leaves_a_trace(lan, box):
    before = box.metrics()
    with Client(lan.client("riscv", mac=MAC.format(9)), MAC.format(9)) as client:
        client.send(DISCOVER, [(60, b"U-Boot"), ASKED], flags=BROADCAST)
        assert client.replies(wait=1) == [], "no program is guessed"
    refused = 'bootlatch_requests_refused_total{protocol="dhcp",reason="no_boot_program"}'
    assert box.metrics()[refused] == before.get(refused, 0) + 1, f"the refusal is counted: {box.metrics()}"
