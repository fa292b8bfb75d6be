"""TFTP packet by packet: options, refusals, nonsense, repeated requests, lost blocks."""

import struct
import time

import pytest

from support.tftp_testbed import ADDRESS, PacketClient

OACK = b"\0\6"


@pytest.fixture
def client(testbed):
    with PacketClient(testbed) as client:
        yield client


def test_the_probe_of_uefi_firmware_is_answered_and_ended(testbed, client):
    """UEFI asks for the size with options, aborts, and asks again."""
    answer, peer = client.read("program", "tsize", 0, "blksize", 1468, "windowsize", 4)
    window = b"1" if testbed.single_port else b"4"  # port 69 is no secret of the transfer
    assert answer == OACK + b"blksize\x001468\0tsize\x001100000\0windowsize\0" + window + b"\0", \
        f"UEFI's probe gets size, block size, and a window on a port of its own: {answer}"
    assert (peer == (ADDRESS, 69)) == testbed.single_port, f"the reply comes from port {'69' if testbed.single_port else 'other than 69'}: {peer}"
    client.abort(peer, b"User aborted the transfer")
    assert client.is_quiet(), "after the probe's ERROR nothing more is sent"


@pytest.mark.parametrize("options, granted", [
    (("blksize", 65464), b"blksize\x001468\0"), (("timeout", 7), b"timeout\x007\0"),
    (("multicast", "", "tsize", 0), b"tsize\x001100000\0")], ids=["blksize", "timeout", "multicast"])
def test_an_option_is_granted_within_its_limits(client, options, granted):
    answer, peer = client.read("program", *options)
    client.abort(peer)
    assert answer == OACK + granted, f"{options} is granted as {granted}: {answer}"


@pytest.mark.parametrize("name, code", [("missing", 1), ("../secret", 2), ("..\\secret", 2), ("a/../../secret", 2), ("out", 1), ("absolute", 1)])
def test_a_file_outside_or_missing_is_refused(client, name, code):
    answer, _ = client.read(name)
    assert answer[:4] == struct.pack("!HH", 5, code), f"{name!r} is refused with error {code}: {answer}"


def test_a_write_is_refused(client):
    answer, _ = client.ask(b"\0\2new\0octet\0")
    assert answer[:4] == b"\0\5\0\2", f"a write is refused: {answer}"


@pytest.mark.parametrize("name", ["/program", "//PROGRAM", "\\program", "52-54-00-12-34-56/program"])
def test_a_file_has_several_spellings(client, name):
    answer, peer = client.read(name, "tsize", 0)
    client.abort(peer)
    assert answer == OACK + b"tsize\x001100000\0", f"{name!r} is the file `program`: {answer}"


def test_nonsense_gets_no_reply(client):
    for nonsense in (b"", b"\0", b"\0\1", b"\0\1x\0", b"\0\1x\0mail\0", b"\0\1x\0octet\0blksize", b"\xff" * 1400, b"\0\1" + b"a" * 600):
        client.send(nonsense)
    assert client.is_quiet(), "nonsense gets no reply"


def test_a_repeated_request_and_a_lost_block_are_answered_again(client):
    block, peer = client.read("program")
    client.send(b"\0\1program\0octet\0")
    assert client.receive() == (block, peer), "a repeated request gets the first block again, from the same port"
    client.send(b"\0\4\0\1", peer)
    second, _ = client.receive()
    client.send(b"\0\4\0\1", peer)  # a repeated acknowledgement must not be answered at once (RFC 1123, 4.2.3.1)
    again, _ = client.receive()
    client.abort(peer)
    assert second == again and second[:4] == b"\0\3\0\2", f"a block that is not acknowledged is sent again: {again[:4]}"


def test_a_window_is_granted_on_a_port_of_its_own(testbed, client):
    answer, peer = client.read("program", "windowsize", 60000, "tsize", 0)
    client.abort(peer)
    window = b"1" if testbed.single_port else b"64"
    assert answer == OACK + b"tsize\x001100000\0windowsize\0" + window + b"\0", \
        f"at most 64 blocks on a port of its own, one on port 69: {answer}"


@pytest.mark.parametrize("testbed", [False], ids=["own-ports"], indirect=True)
def test_a_gap_in_a_window_is_filled_at_once(client):
    _, peer = client.read("program", "blksize", 1000, "windowsize", 8, "timeout", 7)
    client.send(b"\0\4\0\0", peer)
    numbers = [client.receive_block() for _ in range(8)]
    client.send(b"\0\4\0\3", peer)  # block 4 was lost
    began = time.monotonic()
    numbers += [client.receive_block() for _ in range(8)]
    took = time.monotonic() - began
    client.abort(peer)
    assert numbers == [*range(1, 9), *range(4, 12)], f"the blocks after the gap are sent again: {numbers}"
    assert took < 5, f"the gap is filled without waiting for the timeout of 7 s: {took} s"
