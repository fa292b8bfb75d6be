"""Another DHCP server on the host of the server under test: dnsmasq, in the same network namespace."""

import os

import pytest

from support.address_server import Treatment
from support.dhcp_servers import dnsmasq
from support.staged_lan import StagedLan
from support.staged_networks import live

SECOND, SECOND_MAC = "10.88.0.7", "52:54:00:88:ff:07"


@pytest.fixture
def lan():
    lan = StagedLan(isos={"live": live()})
    lan.dhcp.usual = Treatment(is_mute=True)
    yield lan
    lan.close()


def test_its_offers_are_heard(lan):
    """It serves the same segment over another interface of the host, and firmware refuses what both offer."""
    machine = lan.add_machine("vm")
    lan.join(lan.space, SECOND_MAC, SECOND, "lan1")
    program = lan.lan.start(lan.space, "dnsmasq", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=lan1", "--bind-interfaces",
                            "--no-ping", "--user=root", "--dhcp-range=10.88.0.100,10.88.0.120", f"--dhcp-leasefile={lan.folder}/leases")
    program.says("sockets bound")
    lan.start()
    lan.declare(machine)
    offers = machine.discover(tries=3)
    assert offers.boot and offers.address.source == SECOND, f"both offer: {offers}"
    stall = lan.until("the boot is diagnosed", lambda: lan.host("vm")["status"].get("stall"), 20)
    assert stall["reason"] == "offers_refused" and SECOND in stall["message"], stall
    assert not [entry for entry in lan.timeline("vm") if "no_address_offered" in str(entry)]


def test_a_server_on_the_same_interface_is_named_as_the_obstacle(lan):
    """If the port is to be the server's own."""
    lan.config = '[dhcp]\nsocket = "udp"\n'
    dnsmasq(lan.lan, lan.space, "--no-ping", "--user=root", "--dhcp-range=10.88.0.100,10.88.0.120")
    lan.start()
    said = lan.until("the server says what it waits for", lambda: next((line for line in lan.log().splitlines() if "not_bound" in line), None))
    assert "UDP port 67 on lan0" in said and "another DHCP server" in said and 'mode = "off"' in said, said


def test_what_it_offers_is_not_known_on_the_same_interface(lan):
    """The port is shared, and its offers cannot be heard: no cause is certain."""
    dnsmasq(lan.lan, lan.space, "--no-ping", "--user=root", "--dhcp-range=10.88.0.100,10.88.0.120")
    machine = lan.add_machine("vm")
    lan.start()
    lan.declare(machine)
    offers = machine.discover(tries=3)
    assert offers.boot and offers.address, offers
    stall = lan.until("the boot is diagnosed", lambda: lan.host("vm")["status"].get("stall"), 20)
    assert stall["certainty"] == "likely", f"whether it was offered an address is not known: {stall}"
