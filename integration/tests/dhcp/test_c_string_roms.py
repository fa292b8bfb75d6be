"""PXE ROMs of about 2000 to 2014 take option 67 for a C string: they ask TFTP for its text and all octets up to the next zero."""

import pytest

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance, udp_socket
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe
from support.tftp_reader import read_first_block

PROGRAM = b"program" * 20
FILE = b"52-54-00-88-00-01/undionly.kpxe"


@pytest.fixture(scope="module", params=["proxy", "server"])
def rom(request, lan):
    """A server in this mode, and the namespace of a ROM with an address."""
    (lan.folder / "undionly.kpxe").write_bytes(PROGRAM)
    bridge = lan.bridge(f"old-{request.param}")
    config = '[dhcp]\nmode = "server"\n' + SUBNETS if request.param == "server" else ""
    Appliance(lan, lan.client(f"srv-{request.param}", bridge=bridge, address=f"{OURS}/24"), config)
    return lan.client(f"rom-{request.param}", bridge=bridge, mac=MAC.format(1), address="10.88.0.30/24")


def fetch(rom, name):
    with udp_socket(rom, 0) as sock:
        return read_first_block(sock, OURS, name)


def test_the_name_ends_with_a_zero_octet_in_the_packet(rom):
    with Client(rom, MAC.format(1)) as client:
        client.send(DISCOVER, pxe(0), flags=BROADCAST)
        offer = client.reply(wait=5)
    assert offer and offer.c_string(67) == FILE, f"a ROM that reads to the next zero finds the name: {offer and offer.data[240:]}"
    assert offer.c_string(66) == OURS.encode(), f"and the server's name: {offer.data[240:]}"
    assert fetch(rom, offer.c_string(67)) == PROGRAM, "it gets its boot program"


@pytest.mark.parametrize("trailing", [b"\xff", b"B\t10.88.0.2\xff", b"+\x04\x06\x01\x08\xff", b"+$\x06\x01\x08", b"\x01\x04\xff\xff\xff"],
                         ids=["end", "option 66", "option 43", "option 43 of 36 octets", "option 1"])
def test_octets_of_the_next_options_are_no_part_of_the_name(rom, trailing):
    """Another DHCP server names the program, and ends the name with its option."""
    assert fetch(rom, FILE + trailing) == PROGRAM, f"the program is found in spite of {trailing}"
