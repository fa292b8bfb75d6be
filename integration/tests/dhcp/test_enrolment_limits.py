"""A stranger with invented MAC addresses: the number of hosts, the disk and the addresses are bounded."""

import os
import shutil
import subprocess

import pytest

from support.dhcp_appliance import MAC, OURS, Appliance, udp_socket
from support.dhcp_clients import udhcpc
from support.dhcp_wire import ACK, BROADCAST, DISCOVER, OFFER, REQUEST, Client, pxe, request
from support.lan import Lan, until
from support.waiting import slowness

LIMITS = """
[limits]
unknown_hosts = 400
unknown_hosts_per_network = 200
unknown_host_expiry = "2s"
"""
# All relays together get half of the hosts: two and a half times the bound of one relay.
RELAY_LIMITS = """
[limits]
unknown_hosts = 1000
unknown_hosts_per_network = 200
"""
HOST = "apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: {name}, namespace: default}}\nspec: {{bootMACAddress: '{mac}'}}\n"


@pytest.fixture
def lan():
    with Lan("br0") as lan:
        yield lan


def invented(number):
    return f"02:f0:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def flood(client, count, first=0, options=None):
    """Sends the DISCOVERs of so many invented machines."""
    for number in range(first, first + count):
        client.mac = bytes.fromhex(invented(number).replace(":", ""))
        client.send(DISCOVER, options or pxe(7, os.urandom(16)), flags=BROADCAST)


def declare(box, name, mac):
    file = box.lan.folder / f"{name}.yaml"
    file.write_text(HOST.format(name=name, mac=mac))
    box.command("apply", "-f", str(file))


def hosts(box):
    return [line.split("/")[1] for line in box.command("get", "hosts", "-o", "name").split()]


def refused(box, reason):
    return box.metrics().get(f'bootlatch_requests_refused_total{{protocol="dhcp",reason="{reason}"}}', 0)


def is_offered(space, mac):
    with Client(space, mac) as machine:
        for _ in range(4):  # as often as firmware does
            machine.send(DISCOVER, pxe(7), flags=BROADCAST)
            if machine.replies(wait=3, enough=len):
                return True
        return False


def test_invented_machines_are_bounded_and_forgotten(lan):
    box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), LIMITS)
    declare(box, "node1", MAC.format(1))
    attacker, space = lan.client("attacker"), lan.client("pxe", mac=MAC.format(1))
    with Client(attacker, MAC.format(0x66)) as client:
        flood(client, 3000)
        until("the excess is refused", lambda: refused(box, "enrolment_limit") > 500)
    assert len(hosts(box)) <= 201, "no more hosts than the bound are kept"
    assert is_offered(space, MAC.format(1)), "a declared machine is offered its boot program"
    with Client(lan.client("late"), MAC.format(2)) as late:
        late.send(DISCOVER, pxe(7), flags=BROADCAST)
        assert late.reply() is None, "a machine beyond the bound is ignored"
    until("the invented machines are forgotten", lambda: hosts(box) == ["node1"] or len(hosts(box)) == 1, 30)
    assert is_offered(space, MAC.format(1))


def test_a_flood_through_a_relay_leaves_room_for_other_relays_and_the_link(lan):
    box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), RELAY_LIMITS)
    relays = {address: udp_socket(lan.client(name, address=f"{address}/24"), 67) for name, address in (("flooded", "10.88.0.5"), ("other", "10.88.0.6"))}

    def forward(relay, number):
        """Sends the DISCOVER of an invented machine as its relay."""
        message = request(DISCOVER, invented(number), pxe(7, os.urandom(16)), giaddr=relay)
        relays[relay].sendto(message, (OURS, 67))

    for number in range(3000):
        forward("10.88.0.5", number)
    until("the excess is refused", lambda: refused(box, "enrolment_limit") > 500)
    assert len(hosts(box)) == 200, "no more hosts than the bound of a relay are kept"
    relays["10.88.0.6"].settimeout(3 * slowness())

    def is_answered():
        forward("10.88.0.6", 5000)
        try:
            return relays["10.88.0.6"].recv(2000)
        except TimeoutError:
            return None
    assert any(is_answered() for _ in range(4)), "a machine behind another relay is enrolled and answered"
    assert is_offered(lan.client("pxe", mac=MAC.format(1)), MAC.format(1)), "a machine on the link is enrolled and answered"
    for relay in relays.values():
        relay.close()


def test_a_flood_leaves_room_on_a_small_disk_and_changes_work(lan):
    state = lan.folder / "state-small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "none", state], check=True)
    try:
        huge = "[limits]\nunknown_hosts = 1000000\nunknown_hosts_per_network = 1000000\nunknown_hosts_per_minute = 1000000\n"
        box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), huge, first=f'state_dir = "{state}"\n')
        box.stop()
        box.state = state
        box.start()
        declare(box, "node1", MAC.format(1))
        with Client(lan.client("attacker"), MAC.format(0x66)) as client:
            first = 0

            def is_low():
                nonlocal first
                flood(client, 2000, first)
                first += 2000
                return refused(box, "disk_nearly_full") > 0
            until("no unknown machine is enrolled on a disk that is nearly full", is_low, 90)
        assert shutil.disk_usage(state).free > 1 << 20, "some room is left"
        declare(box, "node2", MAC.format(2))
        box.command("delete", "host", "node1")
        assert is_offered(lan.client("pxe", mac=MAC.format(2)), MAC.format(2)), "a declared machine is served"
        box.stop()
    finally:
        subprocess.run(["umount", "-l", state], check=True)


def lease(space, mac, client_id=None):
    """Takes an address as a client that was invented; returns it, or None."""
    options = [(61, client_id)] if client_id else []
    with Client(space, mac) as client:
        client.send(DISCOVER, options, flags=BROADCAST)
        offer = client.reply(wait=0.5)
        if not offer or offer.kind != OFFER:
            return None
        client.send(REQUEST, [(50, bytes(map(int, offer.yiaddr.split(".")))), (54, bytes(map(int, OURS.split(".")))), *options], flags=BROADCAST)
        answer = client.reply(wait=2)
        return answer.yiaddr if answer and answer.kind == ACK else None


def test_invented_clients_leave_addresses_for_declared_machines(lan):
    subnet = '[dhcp]\nmode = "server"\nconflict_check = false\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.119"]\n'
    box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), subnet)
    for number in range(1, 4):
        declare(box, f"node{number}", MAC.format(number))
    attacker = lan.client("attacker")
    taken = [address for number in range(30) if (address := lease(attacker, invented(number)))]
    assert len(set(taken)) == 17, f"17 of 20 addresses are for anybody: {taken}"
    # Any number of client identifiers in the name of a declared machine.
    as_node1 = [address for number in range(10) if (address := lease(attacker, MAC.format(1), bytes([0, number, number])))]
    assert len(as_node1) <= 3, f"{as_node1}"
    dropped = box.metrics().get('bootlatch_packets_dropped_total{protocol="dhcp",reason="source_limit"}', 0)
    assert dropped >= 13, "the refusals are counted"


def test_declared_machines_get_their_addresses_after_a_flood(lan):
    subnet = '[dhcp]\nmode = "server"\nconflict_check = false\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.100-10.88.0.119"]\n'
    box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), subnet)
    for number in range(1, 4):
        declare(box, f"node{number}", MAC.format(number))
    with Client(lan.client("attacker"), MAC.format(0x66)) as client:
        flood(client, 2000, options=[(55, b"\1")])
        for number in range(1, 4):
            received = udhcpc(lan, lan.client(f"node{number}", mac=MAC.format(number)))
            assert received.get("ip", "").startswith("10.88.0.1"), f"a declared machine gets an address: {received}"
