"""Server mode, message by message: refusals, PXE offers, DECLINE, INFORM, and a store that cannot be written."""

import socket
import struct

import pytest

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance
from support.lan import run, tool
from support.dhcp_wire import ACK, BROADCAST, DECLINE, DISCOVER, INFORM, NAK, REQUEST, Client, pxe

OTHER_NETWORK = (50, socket.inet_aton("192.168.7.7"))


@pytest.fixture(scope="module")
def box(lan):
    return Appliance(lan, lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\n' + SUBNETS)


def test_a_request_for_an_address_of_another_network_is_refused(lan, box):
    with Client(lan.client("stray", mac=MAC.format(0x42)), MAC.format(0x42)) as client:
        client.send(REQUEST, [OTHER_NETWORK], flags=BROADCAST)
        kinds = [reply.kind for reply in client.replies(enough=len)]
    assert kinds == [NAK], f"a request for an address of another network is refused: {kinds}"


def test_a_server_that_is_not_authoritative_refuses_no_request(own_lan):
    Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\nauthoritative = false\n' + SUBNETS)
    with Client(own_lan.client("guest", mac=MAC.format(0x43)), MAC.format(0x43)) as client:
        client.send(REQUEST, [OTHER_NETWORK], flags=BROADCAST)
        replies = client.replies(wait=0.6)
    assert replies == [], "a server that is not authoritative does not refuse the request"


def test_pxe_firmware_receives_address_and_boot_file_together(lan, box):
    ours = (54, socket.inet_aton(OURS))
    with Client(lan.client("pxe", mac=MAC.format(0x40)), MAC.format(0x40)) as client:
        client.send(DISCOVER, pxe(7))
        offer = client.reply()
        assert (offer and offer.yiaddr.startswith("10.88.0.1") and offer.file == "52-54-00-88-00-40/snponly.efi" and offer.siaddr == OURS
                and offer.options.get(60) == b"PXEClient" and offer.options.get(43) == b"\x06\x01\x08\xff"), \
            f"PXE firmware gets address and boot file in one offer: {offer and offer.options}"
        assert offer.flags == b"\0\0", "the offer is sent to the client's hardware address only"
        client.send(REQUEST, pxe(7) + [(50, socket.inet_aton(offer.yiaddr)), ours])
        ack = client.reply()
        assert ack and ack.kind == ACK and ack.file == offer.file and ack.options[54] == socket.inet_aton(OURS), "the ACK carries the boot file too"
        client.send(DECLINE, [(50, socket.inet_aton(offer.yiaddr)), ours])
        client.send(DISCOVER, pxe(7))
        other = client.reply()
        assert other and other.yiaddr != offer.yiaddr, "a declined address is not offered again"
    hosts = box.command("host", "list")
    assert MAC.format(0x40).replace(":", "-") in hosts, f"the booting machine is in the host list: {hosts}"


def test_inform_receives_options_without_an_address(lan, box):
    with Client(lan.client("inform", mac=MAC.format(0x44)), MAC.format(0x44)) as client:
        client.send(INFORM, [(55, bytes([6, 15]))], ciaddr="10.88.0.77", flags=BROADCAST)
        replies = [(reply.kind, reply.yiaddr, reply.options.get(15)) for reply in client.replies(enough=len)]
    assert replies == [(ACK, "0.0.0.0", b"lab.example")], f"INFORM gets the options and no address: {replies}"


def test_a_lease_that_cannot_be_written_is_not_acknowledged(lan, box):
    database = str(box.state / "bootlatch.db")
    with Client(lan.client("late", mac=MAC.format(0x41)), MAC.format(0x41)) as client:
        client.send(DISCOVER, [])
        offer = client.reply()
        address = socket.inet_aton(offer.yiaddr)
        take = [(50, address), (54, socket.inet_aton(OURS))]
        run(tool("sqlite3"), database, "ALTER TABLE leases RENAME TO gone")
        client.send(REQUEST, take)
        assert client.replies() == [], "a lease that cannot be written is not acknowledged"
        assert " ERROR " in box.program.text(), f"the failed write is logged as an error: {box.program.text()[-2000:]}"
        run(tool("sqlite3"), database, "ALTER TABLE gone RENAME TO leases")
        client.send(REQUEST, take)
        kinds = [reply.kind for reply in client.replies(enough=len)]
        assert kinds == [ACK], f"the lease is acknowledged as soon as it can be written: {kinds}"
        kept = run(tool("sqlite3"), database, "SELECT count(*) FROM leases WHERE address = %d" % struct.unpack("!I", address))
        assert kept.strip() == "1", f"the lease is on disk when the ACK arrives: {kept}"


def test_a_client_identifier_is_returned(lan, box):
    identifier = bytes([0, 9, 7])
    with Client(lan.client("named", mac=MAC.format(0x45)), MAC.format(0x45)) as client:
        client.send(DISCOVER, [(61, identifier)], flags=BROADCAST)
        offer = client.reply()
    assert offer and offer.options.get(61) == identifier, "a client gets its identifier back (RFC 6842)"
