"""Boots that stall since the network is not as it must be: each on a LAN of its own."""

import os
import signal
import socket
import threading

from support import diagnosis_checks as check
from support.address_server import Treatment
from support.dhcp_wire import DISCOVER, Message, request
from support.healthy_boots import boot_to_image
from support.lan import socket_in
from support.stage import CERTAIN, LIKELY, Rows
from support.staged_lan import DHCP, SERVER
from support.staged_networks import RIVAL, RIVAL_MAC, ROGUE, ROGUE_MAC

ROWS = Rows()
FAR_RELAY = "10.99.0.1"
STOP = 5.2  # seconds
BURST, BURST_STOP = 60_000, 8.0  # messages, and seconds from the machine's first one


def pattern(text):
    return text.replace(".", r"\.").replace(":", "[:-]")


@ROWS.stall("A3", "no_address_offered", CERTAIN, at=12, network="addressless", facts=["lan0", "pool|DHCP server"])
def nobody_offers_an_address(machine):
    offers = machine.discover(tries=3)
    assert offers.boot and not offers.address, f"it is offered a boot file and no address: {offers}"
    yield
    machine.lan.dhcp.usual = Treatment()
    boot_to_image(machine)


def take_an_address_and_fail(machine):
    offers = machine.find_offers(needs_boot=False)
    assert not offers.boot, f"our offer does not arrive: {offers}"
    machine.request(offers)


@ROWS.stall("A5", "offers_not_received", LIKELY, at=14, network="snooping", facts=["lan0", "snooping"])
def the_switch_drops_our_offers(machine):
    take_an_address_and_fail(machine)
    yield
    machine.lan.until("the other machine has its diagnosis as well", lambda: machine.lan.host("a5-second")["status"].get("stall"))
    machine.wait(3)
    machine.lan.trust_port()
    boot_to_image(machine)


@ROWS.stall("A5_second", "offers_not_received", LIKELY, at=14, network="snooping", facts=["lan0", "snooping"], is_shared=True)
def the_switch_drops_our_offers_to_another_machine(machine):
    take_an_address_and_fail(machine)
    yield


@ROWS.stall("A6", "unexpected_dhcp_server", CERTAIN, at=8, network="rogue", facts=[pattern(ROGUE), pattern(ROGUE_MAC), r"192\.168\.99\.50"])
def a_router_of_another_network_answers(machine):
    offers = machine.find_offers()
    assert offers.address.source == ROGUE, f"the router offers an address: {offers}"
    machine.request(offers)
    yield
    machine.lan.unplug()
    boot_to_image(machine)


@ROWS.stall("H11", "other_boot_server", [LIKELY, CERTAIN], at=9, network="rival", facts=[pattern(RIVAL), pattern(RIVAL_MAC)])
def another_boot_server_answers(machine):
    """The firmware takes the file of the other ProxyDHCP, on port 4011 there."""
    offers = machine.find_offers()
    assert RIVAL in {offer.source for offer in offers}, f"the other server answers: {offers}"
    machine.request(offers)
    reply = machine.ask_4011(server=RIVAL)
    machine.note(f"the other server names {reply and reply.file}")
    yield
    machine.lan.rival.stop()
    boot_to_image(machine)


@ROWS.stall("A8", "dhcp_server_claims_boot", LIKELY, at=10, network="claiming", facts=[pattern(DHCP), r"\b60\b"])
def the_dhcp_server_claims_to_be_a_boot_server(machine):
    """The firmware asks it on port 4011, where nobody is."""
    offers = machine.find_offers()
    assert offers.address.options.get(60) == b"PXEClient", f"the DHCP server sends option 60: {offers.address.options}"
    machine.request(offers)
    machine.ask_4011(tries=3, server=DHCP)
    yield
    machine.lan.dhcp.usual = Treatment()
    boot_to_image(machine)


@ROWS.stall("H12", "relay_unreachable", CERTAIN, at=5, network="relayed", facts=[pattern(FAR_RELAY), "lan0|route"])
def there_is_no_way_to_the_relay(machine):
    """The relay's other address is in no network of ours, and nobody answers ARP for it."""
    machine.begin()
    machine.take(machine.address)
    sock = machine.keep(socket_in(machine.space, socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("", 67))
    ask = lambda xid, secs: sock.sendto(request(DISCOVER, machine.mac, machine.firmware.options(machine.mac, machine.uuid), giaddr=FAR_RELAY, xid=xid,
                                                secs=secs), (SERVER, 67))
    for secs in (0, 4):
        machine.wait(secs)
        ask(7, secs)
    yield
    machine.lan.ip(machine.space, "address", "add", f"{FAR_RELAY}/32", "dev", "lan0")
    sock.settimeout(2)
    for secs in (0, 2, 4, 6, 8):  # the kernel may still wait for the ARP reply that it asked for before
        ask(8, secs)
        try:
            assert Message(*sock.recvfrom(4096)).giaddr == FAR_RELAY, "the relay is answered"
            return
        except TimeoutError:
            pass
    raise AssertionError("the relay is not answered")


@ROWS.stall("A12", "offer_late", CERTAIN, at=6, network="stopped", facts=[r"\b[45](?:\.\d)? ?s"])
def our_offer_leaves_late(machine):
    """The server is stopped for as long as a slow disk takes."""
    pid = machine.lan.program.process.pid
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(STOP, os.kill, (pid, signal.SIGCONT)).start()
    offers = machine.discover(tries=2)
    assert offers.boot, f"the offer comes at last: {offers}"
    yield
    boot_to_image(machine)


@ROWS.stall("A13", "requests_lost", LIKELY, at=24, network="flooded", facts=[r"\b12 s\b", r"\d+ requests? on lan0"])
def a_burst_fills_the_receive_buffer(machine):
    """The server does not run while other machines ask, and the kernel has no room for this one's first two requests."""
    pid = machine.lan.program.process.pid
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(BURST_STOP, os.kill, (pid, signal.SIGCONT)).start()
    with socket_in(machine.lan.dhcp_space, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(BURST):
            mac = f"06:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
            sock.sendto(request(DISCOVER, mac, [], xid=number), (SERVER, 67))
    offers = machine.discover(tries=3)
    assert offers.boot, f"the third request is answered: {offers}"
    yield
    boot_to_image(machine)


@ROWS.stall("A13_table", "neighbour_table_full", LIKELY, at=12, network="full_table", facts=["gc_thresh", "neighbour table"])
def the_neighbour_table_is_full(machine):
    """Nothing of ours leaves for the machine, and the kernel counts that it had no room for an entry."""
    file = machine.name_program()
    machine.wait(2)
    machine.block("input", "udp sport 1024-65535 drop")
    threading.Timer(2, machine.lan.set_refused, (7,)).start()
    assert machine.probe(file, tries=3) is None, "nothing arrives"
    yield
    machine.unblock()
    boot_to_image(machine)


test_it_is_staged, test_it_is_diagnosed_in_time, test_all_voices_agree, test_it_is_taken_back = check.tests_of(ROWS)
