"""Damaged requests: each datagram is answered, refused or dropped exactly once, with its reason in the metrics."""

import random

import pytest

from support.dhcp_appliance import MAC, OURS, Appliance, udp_socket
from support.lan import until
from support.dhcp_wire import DISCOVER, Client, captured_requests, pxe, request
from support.programs import ROOT

CAPTURES = [ROOT / "integration/fixtures/captures"]
BAD_TFTP = {b"": "truncated", b"\0\1x": "truncated", b"\0\1x\0octet\0blksize\0": "bad_option", b"\0\7": "bad_header",
            b"\0\1x\0mail\0": "bad_header", b"\0\4\0\1": "no_transfer", b"\0\1../x\0octet\0": "file_not_found",
            b"\0\2x\0octet\0": "write_refused"}


@pytest.fixture(scope="module")
def box(lan):
    return Appliance(lan, lan.client("srv", address=f"{OURS}/24"), "")


@pytest.fixture(scope="module")
def peer(lan):
    """The namespace of the sender."""
    return lan.client("peer", address="10.88.0.9/24")


def damaged(data, chance):
    """Returns a request that is cut, lengthened, replaced or changed at random."""
    data, how = bytearray(data), chance.randrange(5)
    if how == 0:
        return bytes(data[:chance.randrange(len(data))])
    if how == 1:
        return bytes(data) + chance.randbytes(chance.randrange(900))
    if how == 2:
        return chance.randbytes(chance.randrange(1400))
    if how == 3:
        at = chance.randrange(240, len(data))
        return bytes(data[:at]) + chance.randbytes(chance.randrange(30)) + bytes(data[at:])
    for _ in range(chance.randrange(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def answers_a_client(box, peer):
    """Checks that the server still works."""
    with Client(peer, MAC.format(5)) as client:
        client.send(DISCOVER, pxe(7))
        files = [offer.file for offer in client.replies(enough=len)]
    assert files == ["52-54-00-88-00-05/snponly.efi"], f"a machine is answered as before: {files}"
    assert "panic" not in box.program.text(), "the server did not panic"


def test_damaged_dhcp_requests_are_counted_once_each(box, peer):
    chance = random.Random(7)
    captured = [found for folder in CAPTURES for path in sorted(folder.glob("*.pcap")) for found in captured_requests(path)]
    assert len(captured) > 20, f"there are captured requests to damage: {len(captured)}"
    sent, before = 0, box.metrics()
    with udp_socket(peer, 68) as sock:
        for _ in range(20):
            for _ in range(100):
                port, data = chance.choice(captured)
                if port != 69:
                    sock.sendto(damaged(data, chance), (OURS, port))
                    sent += 1
            # The next hundred must not overflow the server's socket.
            until("the server has handled all that was sent", lambda: box.handled_since(before) >= sent)
        for data in (b"", b"\1", request(DISCOVER, MAC.format(1), pxe(7))[:-1] + bytes(4000)):
            sock.sendto(data, (OURS, 67))
            sent += 1
        until("all messages are counted", lambda: box.handled_since(before) >= sent)
    handled = box.handled_since(before)
    assert handled == sent, f"every damaged message is answered, refused or dropped, once: {handled} of {sent}"
    reasons = box.dropped_since(before, "dhcp")
    assert len(reasons) >= 5 and "truncated" in reasons, f"drops have their reasons: {reasons}"
    answers_a_client(box, peer)


def test_damaged_tftp_requests_are_counted_by_reason(box, peer):
    before = box.metrics()
    with udp_socket(peer, 68) as sock:
        for data in BAD_TFTP:
            sock.sendto(data, (OURS, 69))
        expected = {reason: list(BAD_TFTP.values()).count(reason) for reason in BAD_TFTP.values()}
        until("the TFTP drops are counted", lambda: sum(box.dropped_since(before, "tftp").values()) >= len(BAD_TFTP))
    reasons = box.dropped_since(before, "tftp")
    assert reasons == expected, f"TFTP's drops have their reasons: {reasons}"
    answers_a_client(box, peer)
