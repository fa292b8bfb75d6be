"""What a relay asks for in option 82: another server identifier (RFC 5107), another port (RFC 8357), its option back."""

import socket

import pytest

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance, ask, udp_socket
from support.dhcp_wire import ACK, BROADCAST, DISCOVER, OFFER, RELEASE, REQUEST, Client, pxe, request
from support.lan import until

RELAY, POSED = "10.88.0.9", "10.89.0.1"
OVERRIDE = bytes([11, 4, 10, 89, 0, 1])
FAR_LINK = bytes([5, 4, 10, 89, 0, 0])
SOURCE_PORT = bytes([19, 0])
CIRCUIT = bytes([1, 2, 0xaa, 0xbb])


def address(option):
    return socket.inet_ntoa(option)


class Peer:
    """A relay that the test plays, in a namespace of its own on the server's link."""

    def __init__(self, lan, name, source=RELAY):
        self.space = lan.client(name, address=f"{source}/24")

    def ask(self, kind, mac, agent, options=(), port=67, giaddr=RELAY, tries=4, **header):
        """Sends a client's message from a port; returns the reply that arrives there, or None."""
        message = request(kind, MAC.format(mac), [*options, (82, agent)], giaddr=giaddr, **header)
        with udp_socket(self.space, port) as sock:
            return ask(sock, message, (OURS, 67), tries=tries)


def serve(lan, relays="", space=None):
    named = f"relays = [{relays}]\n"
    return Appliance(lan, space or lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\n' + named + SUBNETS)


def lease(peer, mac, agent, server, **how):
    """Takes the offered address by the identifier that the offer has; returns the offer and the acknowledgement."""
    offer = peer.ask(DISCOVER, mac, agent, pxe(0), **how)
    assert offer and offer.kind == OFFER and address(offer.options[54]) == server, f"the offer is {server}'s: {offer and offer.options}"
    take = [(50, socket.inet_aton(offer.yiaddr)), (54, offer.options[54])]
    ack = peer.ask(REQUEST, mac, agent, [*pxe(0), *take], **how)
    assert ack and ack.kind == ACK and address(ack.options[54]) == server, f"the acceptance of {server}'s offer is for us: {ack and ack.options}"
    assert ack.yiaddr == offer.yiaddr and ack.options[82] == agent
    return ack


def test_a_named_relay_of_another_link_poses_as_the_server(own_lan):
    """Cisco's server-id-override with link-selection: giaddr is the relay's address on our side."""
    box = serve(own_lan, f'"{RELAY}"')
    peer, agent = Peer(own_lan, "relay"), CIRCUIT + FAR_LINK + OVERRIDE
    ack = lease(peer, 1, agent, POSED)
    assert ack.yiaddr.startswith("10.89.0.1") and ack.giaddr == RELAY and ack.file.endswith("undionly.kpxe")
    renewed = peer.ask(REQUEST, 1, agent, ciaddr=ack.yiaddr)
    assert renewed and renewed.kind == ACK and address(renewed.options[54]) == POSED, "a renewal that the relay forwards"
    until("the lease is in dhcp.leases", lambda: ack.yiaddr in box.leases())
    peer.ask(RELEASE, 1, agent, [(54, socket.inet_aton(POSED))], ciaddr=ack.yiaddr, tries=1)
    until("a release through the relay ends the lease", lambda: ack.yiaddr not in box.leases())


def test_a_relay_that_sends_from_its_own_address_poses_as_the_server(own_lan):
    serve(own_lan)
    ack = lease(Peer(own_lan, "relay"), 2, CIRCUIT + OVERRIDE, POSED)
    assert ack.yiaddr.startswith("10.88.0.1")


def test_a_relay_is_answered_at_the_port_that_it_asks_for(own_lan):
    box = serve(own_lan, f'"{RELAY}"')
    peer = Peer(own_lan, "relay")
    lease(peer, 3, CIRCUIT + SOURCE_PORT, OURS, port=4067)
    assert peer.ask(DISCOVER, 4, CIRCUIT, pxe(0), port=4067, tries=1) is None, "without the sub-option the reply goes to port 67"
    box.stop()
    unnamed = serve(own_lan, space=box.space)
    assert peer.ask(DISCOVER, 4, CIRCUIT + SOURCE_PORT, pxe(0), port=4067, tries=1) is None, (
        "a relay that is not listed is answered at port 67: anybody can forge its address")
    unnamed.stop()
    proxy = Appliance(own_lan, box.space, f'[dhcp]\nrelays = ["{RELAY}"]\n')
    assert proxy.get("/healthz")
    offer = peer.ask(DISCOVER, 5, CIRCUIT + SOURCE_PORT, pxe(0), port=4067)
    assert offer and offer.file.endswith("undionly.kpxe"), "proxy mode answers there too"


def test_an_option_makes_no_relay_believed(own_lan):
    """The sender is another machine than the relay that its message names, or names addresses of another link."""
    box = serve(own_lan)
    before = box.metrics()
    stranger = Peer(own_lan, "stranger", "10.88.0.66")
    assert stranger.ask(DISCOVER, 6, CIRCUIT + OVERRIDE + SOURCE_PORT, pxe(0), tries=1) is None, "a forged giaddr"
    assert stranger.ask(DISCOVER, 7, FAR_LINK + OVERRIDE, pxe(0), giaddr="10.88.0.66", tries=1) is None, "an address of another link"
    dropped = box.dropped_since(before, "dhcp")
    assert dropped == {"unknown_relay": 1, "not_on_link": 1}, f"both are counted: {dropped}"
    box.program.says("list it in dhcp.relays")


def test_a_stranger_does_not_release_a_lease_through_the_option(own_lan):
    box = serve(own_lan)
    ack = lease(Peer(own_lan, "relay"), 8, CIRCUIT + OVERRIDE, POSED)
    until("the lease is in dhcp.leases", lambda: ack.yiaddr in box.leases())
    before = box.metrics()
    stranger = Peer(own_lan, "stranger", "10.88.0.66")
    stranger.ask(RELEASE, 8, OVERRIDE, [(54, socket.inet_aton(POSED))], ciaddr=ack.yiaddr, tries=1)
    until("the release is dropped", lambda: sum(box.dropped_since(before, "dhcp").values()) == 1)
    stranger.ask(RELEASE, 8, OVERRIDE, [(54, socket.inet_aton(POSED))], giaddr="10.88.0.66", ciaddr=ack.yiaddr, tries=1)
    until("with its own address too", lambda: sum(box.dropped_since(before, "dhcp").values()) == 2)
    assert ack.yiaddr in box.leases(), "the lease stays"


@pytest.fixture(scope="module")
def box(lan):
    return serve(lan)


@pytest.fixture(scope="module")
def peer(lan):
    return Peer(lan, "relay")


@pytest.mark.parametrize("flags", [0, BROADCAST], ids=["unicast", "broadcast"])
def test_flags_and_the_option_of_two_agents_come_back(box, peer, flags):
    message = request(DISCOVER, MAC.format(9), [*pxe(7), (82, CIRCUIT), (82, b"\2\3abc")], giaddr=RELAY, flags=flags)
    with udp_socket(peer.space, 67) as sock:
        offer = ask(sock, message, (OURS, 67), tries=4)
    assert offer.flags == flags.to_bytes(2, "big"), "a relay hands the reply on by its flags"
    assert offer.data.rstrip(b"\0").endswith(b"\x52\x09" + CIRCUIT + b"\2\3abc\xff"), f"both options come back, joined and last: {offer.data}"


def test_a_switch_that_snoops_gets_its_option_back(lan, box):
    with Client(lan.client("snooped", mac=MAC.format(0x0a)), MAC.format(0x0a)) as client:
        client.send(DISCOVER, [*pxe(7), (82, CIRCUIT + OVERRIDE)], flags=BROADCAST)
        offer = client.reply(wait=3)
    assert offer.options[82] == CIRCUIT + OVERRIDE, "option 82 comes back without a relay address"
    assert address(offer.options[54]) == OURS, "and asks for nothing"


def test_long_requests_and_overloaded_fields_are_read(lan, box):
    with Client(lan.client("long", mac=MAC.format(0x0b)), MAC.format(0x0b)) as client:
        client.send(DISCOVER, [*pxe(7), *((code, bytes(200)) for code in (125, 224, 225, 226))], flags=BROADCAST)
        assert client.reply(wait=3), "a DISCOVER of 1,100 octets is answered"
        name = b"\x3c\x20PXEClient:Arch:00007:UNDI:003016\xff"
        client.send(DISCOVER, [(52, b"\3")], flags=BROADCAST, file=b"\x5d\2\0\7\xff", sname=name)
        offer = client.reply(wait=3)
    assert offer and offer.file.endswith("snponly.efi"), f"options in `sname` and `file` are read: {offer and offer.file}"
