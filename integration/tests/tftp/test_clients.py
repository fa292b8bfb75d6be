"""Files read whole by real TFTP clients: tftp-hpa, atftp, curl and busybox, with every option that they know."""

import shutil

import pytest

from support.tftp_testbed import ADDRESS, ADDRESS6, SECOND, SIZES, PacketClient, TftpTestbed

CLIENTS = {
    "tftp-hpa": ["tftp", "-m", "octet", ADDRESS, "-c", "get", "NAME", "got"],
    "atftp": ["atftp", "--get", "-r", "NAME", "-l", "got", ADDRESS],
    "atftp, blksize 1428, tsize, timeout 3": ["atftp", "--option", "blksize 1428", "--option", "tsize", "--option", "timeout 3",
                                              "--get", "-r", "NAME", "-l", "got", ADDRESS],
    "atftp, windowsize 16": ["atftp", "--option", "windowsize 16", "--option", "blksize 1428", "--get", "-r", "NAME", "-l", "got", ADDRESS],
    "curl": ["curl", "-sS", "-o", "got", f"tftp://{ADDRESS}/NAME"],
    "curl, blksize 1468": ["curl", "-sS", "--tftp-blksize", "1468", "-o", "got", f"tftp://{ADDRESS}/NAME"],
    "curl, no options": ["curl", "-sS", "--tftp-no-options", "-o", "got", f"tftp://{ADDRESS}/NAME"],
    "busybox, blksize 1468": ["busybox", "tftp", "-g", "-b", "1468", "-r", "NAME", "-l", "got", ADDRESS],
}


def is_possible(client, name):
    """Returns whether a client can read a file at all."""
    # After 65535 blocks the other clients stop or wrap in their own ways: 34 MB needs one that rolls over.
    if name == "large":
        return client in ("tftp-hpa", "atftp, windowsize 16", "curl, blksize 1468")
    # curl refuses a tsize of 0 (lib/tftp.c, "invalid tsize"), which is the size of an empty file.
    return name != "empty" or client not in ("curl", "curl, blksize 1468")


@pytest.mark.parametrize("command, package", [("tftp", "tftp-hpa"), ("atftp", "atftp"), ("curl", "curl"), ("busybox", "busybox-static")])
def test_the_client_is_installed(command, package):
    assert shutil.which(command), f"{command} is installed (Debian's package {package})"


@pytest.mark.parametrize("client, name", [(client, name) for name in SIZES for client in CLIENTS if is_possible(client, name)])
def test_a_client_reads_a_file(testbed, client, name):
    whole, seen = testbed.fetch([word.replace("NAME", name) for word in CLIENTS[client]], name)
    assert whole, f"{client} reads {name} ({SIZES[name]} octets): {seen}"


@pytest.mark.parametrize("client, command, name", [
    ("curl over IPv6", ["curl", "-sS", "--tftp-blksize", "1428", "-o", "got", f"tftp://[{ADDRESS6}]/program"], "program"),
    ("tftp-hpa over IPv6", ["tftp", "-6", "-m", "octet", ADDRESS6, "-c", "get", "program", "got"], "program"),
    ("tftp-hpa, netascii", ["tftp", "-m", "netascii", ADDRESS, "-c", "get", "text", "got"], "text")], ids=lambda value: value if " " in value else None)
def test_a_client_reads_over_ipv6_and_in_netascii(testbed, client, command, name):
    whole, seen = testbed.fetch(command, name)
    assert whole, f"{client} reads a file: {seen}"


@pytest.mark.parametrize("single", [False, True], ids=["own-ports", "one-port"])
def test_a_second_address_answers_from_itself(files, single):
    """The interface has two addresses, and the configuration chooses none."""
    with TftpTestbed(files, f"single_port = {str(single).lower()}", chosen=()) as testbed:
        with PacketClient(testbed) as client:
            answer, peer = client.ask(b"\0\1one\0octet\0", SECOND)
            assert answer[:4] == b"\0\3\0\1" and peer[0] == SECOND, f"a request to the second address is answered from there: {peer}"
            client.send(b"\0\4\0\1", peer)
        whole, seen = testbed.fetch(["curl", "-sS", "-o", "got", f"tftp://{SECOND}/program"], "program")
        assert whole, f"curl reads the program from the second address: {seen}"


def test_blocks_fit_the_mtu(files):
    with TftpTestbed(files, mtu=1400) as testbed, PacketClient(testbed) as client:
        answer, peer = client.read("program", "blksize", 1468)
        client.abort(peer)
        assert answer == b"\0\6blksize\x001368\0", f"with an MTU of 1400, blocks are 1368 octets: {answer}"


def test_max_block_size_allows_fragments(files):
    with TftpTestbed(files, "max_block_size = 8192") as testbed:
        with PacketClient(testbed) as client:
            answer, peer = client.read("program", "blksize", 8192)
            client.abort(peer)
        assert answer == b"\0\6blksize\x008192\0", f"a block larger than the MTU is granted: {answer}"
        whole, seen = testbed.fetch(["curl", "-sS", "--tftp-blksize", "8192", "-o", "got", f"tftp://{ADDRESS}/program"], "program")
        assert whole, f"curl reads the program in fragments: {seen}"
