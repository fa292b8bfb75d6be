"""Forged DHCP messages: none moves a host whose address is tied, and none ties the attacker's own address to a host."""

import socket

import pytest

from support.attacker import Attacker
from support.dhcp_wire import ACK, DISCOVER, NAK, OFFER, RELEASE, REQUEST, Client, pxe
from support.lan import until
from support.provisioned_lan import DHCRELAY, FAR, MACS, NEAR, OURS, RELAYED_SUBNETS, SECRET, SUBNETS, relay, routed_network, token_of, udhcpc

EVIL, SPARE = "10.89.0.66", "10.89.0.67"
EVIL_NEAR, SPARE_NEAR = "10.88.0.66", "10.88.0.67"


def option50(address):
    return [(50, socket.inet_aton(address))]


def sent(box, before, count, what):
    """Waits until the server has handled `count` more messages than before."""
    until(f"{what}: the forged messages are handled", lambda: box.handled() >= before + count)


def unharmed(box, near, attacker, what, *sources):
    """The victim's install goes on, and none of the attacker's addresses is given anything of it."""
    status = box.status("near")
    assert status.get("address") == near.address and status["phase"] in ("Offered", "Installing"), f"{what}: the victim is not moved: {status}"
    for source in sources:
        code, said = attacker.ask("/api/v1/bootconfig", source=source)
        assert code != 200 and SECRET not in said, f"{what}: the attacker at {source} gets no config: {(code, said)}"
        script = attacker.script("near", source=source)
        assert token_of(script) is None, f"{what}: the attacker at {source} gets no token: {script}"
        assert attacker.ask("/api/v1/boot-complete", "POST", source=source)[0] != 200, f"{what}: the attacker at {source} does not complete the install"
    assert box.status("near")["phase"] in ("Offered", "Installing"), f"{what}: the install is not ended: {box.status('near')}"


@pytest.fixture
def proxied(lan):
    """Proxy mode: the victim "near" installs on the server's link, and "other" was never seen."""
    box, near, far, router = routed_network(lan, "", FAR)
    near.address = NEAR
    assert token_of(near.script()), "the victim's install has begun"
    return box, near, far, router


def test_a_relay_that_is_not_its_giaddr_is_not_believed(lan, proxied):
    box, near, far, _ = proxied
    attacker = Attacker(lan, "br0", EVIL_NEAR, SPARE_NEAR)
    before = box.handled()
    for victim in ("near", "other"):
        attacker.dhcp(REQUEST, MACS[victim], option50(EVIL), EVIL_NEAR, giaddr="10.89.0.1")
    sent(box, before, 2, "a foreign giaddr")
    assert box.dropped("dhcp", "unknown_relay") >= 2, f"each is counted with its reason: {box.metrics()}"
    behind = Attacker(lan, "br1", EVIL, router="10.89.0.1")
    unharmed(box, near, behind, "a foreign giaddr", EVIL)
    assert "address" not in box.status("other"), f"a host that was never seen is not moved either: {box.status('other')}"


def test_a_broadcast_names_addresses_of_this_wire_only(lan, proxied):
    box, near, far, _ = proxied
    attacker = Attacker(lan, "br0", EVIL_NEAR)
    before = box.handled()
    for victim in ("near", "other"):
        attacker.broadcast(REQUEST, MACS[victim], option50(EVIL))
    sent(box, before, 2, "a broadcast for a far address")
    behind = Attacker(lan, "br1", EVIL, router="10.89.0.1")
    unharmed(box, near, behind, "a broadcast for a far address", EVIL)
    assert "address" not in box.status("other"), f"a host that was never seen is not moved either: {box.status('other')}"


def test_a_relay_moves_no_neighbour(lan, proxied):
    """The attacker behind the router is a relay by its own word: its source is its giaddr."""
    box, near, far, _ = proxied
    attacker = Attacker(lan, "br1", EVIL, SPARE, router="10.89.0.1")
    before = box.handled()
    attacker.dhcp(REQUEST, MACS["near"], option50(SPARE), EVIL, giaddr=EVIL)
    attacker.dhcp(REQUEST, MACS["near"], option50(EVIL), EVIL, giaddr=EVIL)
    sent(box, before, 2, "a relay of its own")
    unharmed(box, near, attacker, "a relay of its own", EVIL, SPARE)
    refused = box.events("near", "refused", "seen_at_other_address")
    assert refused and refused[0]["protocol"] == "dhcp", f"the refusal is in the victim's timeline: {refused}"


def test_a_broadcast_does_not_take_a_tied_machine_away(lan, proxied):
    """An attacker on the victim's own link names an address of this wire."""
    box, near, far, _ = proxied
    attacker = Attacker(lan, "br0", EVIL_NEAR, SPARE_NEAR)
    attacker.broadcast(REQUEST, MACS["near"], option50(SPARE_NEAR))
    unharmed(box, near, attacker, "a broadcast on the link", EVIL_NEAR, SPARE_NEAR)
    assert near.ask("/api/v1/bootconfig") == (200, SECRET), "the victim still gets its config"


def test_the_sites_own_relay_is_believed_and_a_move_is_an_event(lan, proxied):
    """A host that was never seen boots behind a router whose relay sends from its giaddr; later it has another address."""
    box, _, far, router = proxied
    relay_ = Relay(lan, router)
    relay_.dhcp(REQUEST, MACS["far"], option50(FAR), "10.89.0.1", giaddr="10.89.0.1")
    until("the exchange is noted", lambda: box.status("far").get("address") == FAR)
    assert token_of(far.script()) and far.ask("/api/v1/bootconfig") == (200, SECRET), "the honest machine gets its script and its config"
    relay_.dhcp(REQUEST, MACS["far"], option50("10.89.0.23"), "10.89.0.1", giaddr="10.89.0.1")
    until("the machine's new address is noted", lambda: box.status("far").get("address") == "10.89.0.23")
    moved = box.events("far", "address_changed")
    assert moved == [{"from": FAR, "to": "10.89.0.23", "evidence": "dhcp_exchange"}], f"the move is an event: {moved}"


class Relay(Attacker):
    """An honest relay that the test plays on a router."""

    def __init__(self, lan, space):
        self.lan, self.space, self.sockets = lan, space, {}


def test_a_named_relay_may_send_from_another_address(lan):
    box, near, far, router = routed_network(lan, f"[dhcp]\n{DHCRELAY}", FAR)
    relay_ = Relay(lan, router)
    relay_.dhcp(REQUEST, MACS["far"], option50(FAR), "10.88.0.9", giaddr="10.89.0.1", port=1067)
    until("the exchange is noted", lambda: box.status("far").get("address") == FAR)
    assert token_of(far.script()), "a relay that the configuration names is believed from another address and port than its giaddr's"


@pytest.mark.parametrize("mode", ["address", "token", "both"])
def test_server_mode_leases_no_other_address_to_a_machine_that_installs(lan, mode):
    """The victim holds a lease of its own, is a neighbour and installs."""
    box, near, far, router = routed_network(lan, f'{SUBNETS}[config_access]\nrequire = "{mode}"\n')
    near.address = udhcpc(lan, near)
    assert token_of(near.script()), "the victim's install has begun"
    attacker = Attacker(lan, "br1", EVIL, "10.89.0.105", "10.89.0.106", router="10.89.0.1")
    server = [(54, socket.inet_aton(OURS))]
    mac = MACS["near"]
    replies = {
        "SELECTING without an offer": attacker.dhcp(REQUEST, mac, option50("10.89.0.105") + server, EVIL, giaddr=EVIL),
        "INIT-REBOOT": attacker.dhcp(REQUEST, mac, option50("10.89.0.105"), EVIL, giaddr=EVIL),
        "RENEWING": attacker.dhcp(REQUEST, mac, [], "10.89.0.105", ciaddr="10.89.0.105"),
        "RENEWING with a giaddr": attacker.dhcp(REQUEST, mac, [], EVIL, giaddr=EVIL, ciaddr="10.89.0.105"),
        "another identifier": attacker.dhcp(REQUEST, mac, option50("10.89.0.105") + [(61, b"\0evil")], EVIL, giaddr=EVIL),
        "a discovery": attacker.dhcp(DISCOVER, mac, pxe(7), EVIL, giaddr=EVIL),
        "a discovery with another identifier": attacker.dhcp(DISCOVER, mac, [(61, b"\0evil")], EVIL, giaddr=EVIL),
        "a subnet of its choice": attacker.dhcp(REQUEST, mac, option50("10.89.0.105") + [(118, socket.inet_aton("10.89.0.0"))], EVIL),
    }
    granted = {what: reply.kind for what, reply in replies.items() if reply and reply.kind in (ACK, OFFER)}
    assert not granted, f"{mode}: nothing is leased to the attacker in the victim's name: {granted}"
    # The attacker takes a lease under its own name, and renews it as the victim.
    own = [(61, b"\0mine")]
    offer = attacker.dhcp(DISCOVER, attacker.mac, own, EVIL, giaddr=EVIL, wait=3)
    assert offer and offer.kind == OFFER, f"{mode}: a stranger behind a relay of its own is offered an address: {offer}"
    ack = attacker.dhcp(REQUEST, attacker.mac, own + option50(offer.yiaddr) + server, EVIL, giaddr=EVIL)
    assert ack and ack.kind == ACK, f"{mode}: a stranger is leased an address: {ack}"
    lan.ip(attacker.space, "address", "add", f"{offer.yiaddr}/24", "dev", "lan0")
    stolen = attacker.dhcp(REQUEST, mac, own + option50(offer.yiaddr), EVIL, giaddr=EVIL)
    assert not stolen or stolen.kind == NAK, f"{mode}: a lease does not pass to a host's MAC address by a shared identifier: {stolen.kind}"
    # The end of the victim's lease, by somebody else.
    attacker.dhcp(RELEASE, mac, server, EVIL, ciaddr=near.address)
    attacker.dhcp(RELEASE, mac, server, EVIL, giaddr=EVIL, ciaddr=near.address)
    unharmed(box, near, attacker, mode, EVIL, "10.89.0.105", offer.yiaddr)
    leases = [line.split() for line in (box.state / "dhcp.leases").read_text().splitlines()]
    assert [row[2] for row in leases if row[1] == mac] == [near.address], f"{mode}: the victim has its one lease: {leases}"
    token = token_of(near.script())
    assert near.ask(f"/nocloud/{token}/user-data") == (200, SECRET), f"{mode}: the victim still gets its config"


def test_a_lease_from_before_a_host_was_known_does_not_tie_it_elsewhere(lan):
    """The attacker takes a lease in the name of a machine that boots, on the link, only later."""
    box, near, far, router = routed_network(lan, SUBNETS)
    attacker = Attacker(lan, "br1", EVIL, router="10.89.0.1")
    server = [(54, socket.inet_aton(OURS))]
    offer = attacker.dhcp(DISCOVER, MACS["near"], [], EVIL, giaddr=EVIL, wait=3)
    if offer and offer.kind == OFFER:
        attacker.dhcp(REQUEST, MACS["near"], option50(offer.yiaddr) + server, EVIL, giaddr=EVIL)
        lan.ip(attacker.space, "address", "add", f"{offer.yiaddr}/24", "dev", "lan0")
    lan.ip(near.space, "address", "replace", f"{NEAR}/24", "dev", "lan0")
    assert token_of(near.script()), "the machine itself is a neighbour, and installs"
    assert offer is None or attacker.ask("/api/v1/bootconfig", source=offer.yiaddr)[0] != 200, "the older lease gives nothing away"
    assert near.ask("/api/v1/bootconfig") == (200, SECRET), "the machine itself gets its config"


def test_known_leases_are_answered_after_a_restart(lan):
    """INIT-REBOOT and RENEWING of a known lease, on the link, through a relay and through the router."""
    box, near, far, router = routed_network(lan, RELAYED_SUBNETS)
    relay(lan, router, OURS)
    here, there = udhcpc(lan, near), udhcpc(lan, far)
    box.start(RELAYED_SUBNETS)
    with Client(near.space, near.mac) as client:
        client.send(REQUEST, option50(here), flags=0x8000)
        reply = client.reply(wait=3)
        assert reply and (reply.kind, reply.yiaddr) == (ACK, here), f"INIT-REBOOT on the link: {reply and reply.kind}"
    with Client(far.space, far.mac) as client:
        client.send(REQUEST, option50(there), flags=0x8000)
        reply = client.reply(wait=3)
        assert reply and (reply.kind, reply.yiaddr) == (ACK, there), f"INIT-REBOOT through the relay: {reply and reply.kind}"
    renewing = Relay(lan, far.space)
    reply = renewing.dhcp(REQUEST, far.mac, [], there, ciaddr=there, wait=3, port=68)
    assert reply and (reply.kind, reply.yiaddr) == (ACK, there), f"RENEWING through the router: {reply and reply.kind}"
    assert token_of(far.script()) and far.ask("/api/v1/bootconfig") == (200, SECRET), "the lease still ties the machine"
