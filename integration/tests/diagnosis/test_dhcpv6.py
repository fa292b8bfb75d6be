"""Firmware that tries IPv6 is heard, with the machine that it is, and never answered."""

import contextlib
import random
import socket

import pytest

from support import dhcpv6_wire as dhcpv6
from support.healthy_boots import boot_to_image
from support.lan import socket_in
from support.objects import HOSTS
from support.staged_lan import SERVER_MAC, StagedLan
from support.staged_networks import live
from support.waiting import eventually

SPARE = "52:54:00:88:bb:01"  # the MAC address of an interface that is no host's


class Machine:
    """A machine of the LAN that sends frames, and what is known of its boots."""

    def __init__(self, lan, name):
        self.lan, self.name = lan, name
        self.staged = lan.add_machine(name)
        self.mac, self.uuid = self.staged.mac, self.staged.uuid

    def open(self):
        self.wire = self.staged.keep(dhcpv6.wire(self.staged.space, "lan0"))

    def send(self, kind, duid, source=None, mac=None, **options):
        mac = mac or self.mac
        self.wire.send(dhcpv6.frame(mac, source or dhcpv6.eui64(mac), dhcpv6.message(kind, duid, **options)))

    def report(self):
        return self.lan.api("GET", f"{HOSTS}/{self.name}/diagnosis")[1]

    def solicits(self):
        """Returns how many SOLICITs the host's steps have."""
        return sum(step["count"] for step in self.report()["steps"] if "SOLICIT" in step["text"])


@pytest.fixture(scope="module")
def lan():
    lan = StagedLan(isos={"live": live()})
    try:
        lan.start()
        yield lan
        assert "panicked" not in lan.log()
    finally:
        lan.close()


@pytest.fixture
def new_machine(lan):
    def new():
        one = Machine(lan, f"vm{next(lan.count)}")
        lan.declare(one.staged)
        one.open()
        return one
    return new


@pytest.fixture
def machine(new_machine):
    return new_machine()


def drops(lan):
    prefix = 'bootlatch_packets_dropped_total{protocol="dhcp",reason="'
    return {key[len(prefix):-2]: int(value) for key, value in lan.metrics().items() if key.startswith(prefix)}


@pytest.mark.parametrize("duid", [lambda one: dhcpv6.by_uuid(one.uuid), lambda one: dhcpv6.by_mac(SPARE)], ids=["uuid", "other card"])
def test_the_interface_names_the_machine(machine, duid):
    """Its link-local address is formed of the MAC address, whatever its DUID says."""
    machine.send(dhcpv6.SOLICIT, duid(machine))
    assert eventually(lambda: machine.solicits() == 1), machine.report()


@pytest.mark.parametrize("duid", [dhcpv6.by_mac, dhcpv6.by_mac_and_time], ids=["LL", "LLT"])
def test_the_duid_names_the_machine_behind_a_private_address(machine, duid):
    machine.send(dhcpv6.SOLICIT, duid(machine.mac), source=dhcpv6.private())
    assert eventually(lambda: machine.solicits() == 1), machine.report()


def test_the_uuid_names_the_machine_of_an_unknown_interface(machine):
    boot_to_image(machine.staged)  # its firmware claims the UUID over DHCPv4
    machine.open()
    machine.send(dhcpv6.SOLICIT, dhcpv6.by_uuid(machine.uuid), mac=SPARE)
    assert eventually(lambda: machine.solicits() == 1), machine.report()


def test_a_machine_whose_messages_name_nobody_is_not_recorded(machine):
    before = drops(machine.lan)
    machine.send(dhcpv6.SOLICIT, b"\0\2\0\0\1\1", source=dhcpv6.private())
    assert eventually(lambda: drops(machine.lan)["no_hardware_address"] == before["no_hardware_address"] + 1)
    assert machine.solicits() == 0


def test_a_machine_that_another_server_answers_is_not_stalled(machine, new_machine):
    duid = dhcpv6.by_uuid(machine.uuid)
    machine.send(dhcpv6.SOLICIT, duid)
    machine.send(dhcpv6.REQUEST, duid)
    assert eventually(lambda: any("REQUEST of firmware" in step["text"] for step in machine.report()["steps"]))
    unanswered = new_machine()
    unanswered.send(dhcpv6.SOLICIT, dhcpv6.by_uuid(unanswered.uuid))
    diagnosis = lambda: unanswered.report()["diagnosis"]
    assert eventually(lambda: diagnosis() and diagnosis()["reason"] == "ipv6_first", 20), unanswered.report()
    assert machine.report()["diagnosis"] is None, machine.report()


def test_what_is_not_of_firmware_is_dropped_and_counted(machine):
    before = drops(machine.lan)
    ipxe = [(15, b"\0\4iPXE")]
    machine.send(dhcpv6.SOLICIT, dhcpv6.by_mac(machine.mac), more=ipxe)
    machine.send(dhcpv6.SOLICIT, dhcpv6.by_mac(machine.mac), vendor=b"MSFT 5.0")
    machine.send(dhcpv6.RENEW, dhcpv6.by_mac(machine.mac))
    machine.wire.send(dhcpv6.frame(machine.mac, dhcpv6.eui64(machine.mac), b"\1\1"))
    machine.wire.send(dhcpv6.frame(machine.mac, dhcpv6.eui64(machine.mac), b"\1\1\2\3\0\x3d\0\1\7"))
    expected = {"not_a_boot_request": 2, "not_a_request": 1, "truncated": 1, "bad_option": 1}
    counted = lambda: {reason: drops(machine.lan)[reason] - before[reason] for reason in expected}
    assert eventually(lambda: counted() == expected), counted()
    assert machine.solicits() == 0


def test_a_flood_is_bounded_and_nothing_is_ever_answered(machine):
    ear = machine.staged.keep(dhcpv6.wire(machine.staged.space, "lan0"))
    before, chance = drops(machine.lan), random.Random(1)
    real = dhcpv6.message(dhcpv6.SOLICIT, dhcpv6.by_uuid(bytes(range(16))))
    for _ in range(4000):
        changed = bytearray(real)
        for _ in range(chance.randrange(4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        stranger = "02:" + ":".join(f"{chance.randrange(256):02x}" for _ in range(5))
        end = chance.randrange(len(changed) + 1) if chance.random() < 0.2 else len(changed)
        machine.wire.send(dhcpv6.frame(stranger, dhcpv6.eui64(stranger), bytes(changed[:end])))
    assert eventually(lambda: drops(machine.lan)["rate_limit"] > before["rate_limit"], 10), drops(machine.lan)
    again = lambda: machine.send(dhcpv6.SOLICIT, dhcpv6.by_uuid(machine.uuid)) or machine.solicits()
    assert eventually(again, 10), "a declared host is heard beside the flood"
    ear.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            received = ear.recv(2000)
            is_reply = received[6:12] == dhcpv6.octets(SERVER_MAC) and received[20] == 17 and int.from_bytes(received[54:56], "big") == 547
            assert not is_reply, f"DHCPv6 is answered: {received.hex()}"


@pytest.mark.parametrize("case", ["port", "off"])
def test_the_server_starts_without_the_port_and_without_ipv6(case):
    lan = StagedLan()
    lan.log_level = "debug"
    taken = None
    try:
        if case == "port":
            taken = socket_in(lan.space, socket.AF_INET6, socket.SOCK_DGRAM)
            taken.bind(("::", 547))
        else:
            lan.inside(lan.space, "sysctl", "-qw", "net.ipv6.conf.lan0.disable_ipv6=1")
        lan.start()
        lines = [line for line in lan.log().splitlines() if "DHCPv6" in line]
        assert lines and all("DEBUG" in line and "endpoint not available endpoint=DHCPv6 on lan0" in line for line in lines), lines
        assert len(lines) < 5, f"a try at the start and at each change of the interface: {lines}"
        assert not [line for line in lan.log().splitlines() if " WARN " in line or " ERROR " in line], lan.log()[-2000:]
    finally:
        if taken:
            taken.close()
        lan.close()


def test_a_dhcpv6_server_that_shares_the_port_starts_beside_it(lan):
    """dnsmasq and Kea set SO_REUSEADDR, so that they can be started after this server."""
    with contextlib.closing(socket_in(lan.space, socket.AF_INET6, socket.SOCK_DGRAM)) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("::", 547))
