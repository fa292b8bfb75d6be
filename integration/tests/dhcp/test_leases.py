"""Server mode against real clients: addresses, options, reservations, conflicts, and leases that survive a crash."""

import signal

import pytest

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance
from support.dhcp_clients import dhclient, dhclient_command, dhcpcd, executable, udhcpc
from support.lan import until
from support.dhcp_wire import BROADCAST, DISCOVER, Client

POOL = "10.88.0.1"  # the first characters of every address in the pool


@pytest.fixture(scope="module")
def box(lan):
    return Appliance(lan, lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\n' + SUBNETS)


def test_udhcpc_receives_an_address_and_every_option(lan, box):
    received = udhcpc(lan, lan.client("udh", mac=MAC.format(1)), "-x", "hostname:node1", "-O", "search", "-O", "staticroutes", "-O", "ntpsrv")
    address = received.get("ip", "")
    assert address.startswith(POOL), f"udhcpc gets an address of the pool: {received}"
    options = [received.get(name) for name in ("router", "dns", "domain", "search", "ntpsrv", "staticroutes", "lease", "serverid")]
    assert options == ["10.88.0.2", "10.88.0.3 10.88.0.4", "lab.example", "lab.example example.org", "10.88.0.5",
                       "0.0.0.0/0 10.88.0.2 10.99.0.0/16 10.88.0.9", "600", OURS], \
        f"udhcpc gets router, DNS, domain, search list, NTP, routes and lease time: {received}"
    row = until("the lease is in dhcp.leases", lambda: box.leases().get(address))
    assert row[1] == MAC.format(1) and row[3] == "node1", f"the lease is in dhcp.leases, in dnsmasq's format: {row}"


def test_dhclient_keeps_its_address_and_releases_it(lan, box):
    udhcpc(lan, lan.client("other", mac=MAC.format(9)))
    others = box.leases()
    assert others, "another client has a lease"
    client = lan.client("isc", mac=MAC.format(2))
    received = dhclient(lan, client)
    address = received.get("new_ip_address", "")
    assert address.startswith(POOL) and address not in others, f"dhclient gets an address that no other client has: {received}"
    times = received.get("new_dhcp_renewal_time"), received.get("new_dhcp_rebinding_time")
    assert times == ("300", "525"), f"dhclient gets T1 and T2: {received}"
    received = dhclient(lan, client)
    assert received.get("new_ip_address") == address, f"dhclient gets the same address again (INIT-REBOOT): {received}"
    dhclient(lan, client, "-r")
    until("dhclient's release removes its lease from dhcp.leases", lambda: address not in box.leases())


def test_dhcpcd_receives_an_address(lan, box):
    received = dhcpcd(lan, lan.client("cd", mac=MAC.format(3)))
    assert received.get("new_ip_address", "").startswith(POOL), f"dhcpcd gets an address: {received}"


def test_reservations_match_by_mac_address_and_by_client_identifier(lan, box):
    received = udhcpc(lan, lan.client("kept", mac=MAC.format(0x50)), "-x", "0x3d:ff00010203")
    assert received.get("ip") == "10.88.0.50", f"a reservation by MAC address applies whatever client identifier is sent: {received}"
    received = udhcpc(lan, lan.client("named", mac=MAC.format(0x60)), "-x", "0x3d:006e6f6465")
    assert received.get("ip") == "10.88.0.51", f"a reservation by client identifier applies: {received}"


def test_an_address_in_use_is_not_offered(lan, box):
    """A host without a lease uses the address that would be offered next."""
    with Client(lan.client("peek", mac=MAC.format(0x20)), MAC.format(0x20)) as client:
        client.send(DISCOVER, [], flags=BROADCAST)
        offers = client.replies(enough=len)
    assert len(offers) == 1, f"an offer comes after no host claimed its address: {[offer.yiaddr for offer in offers]}"
    network, last = offers[0].yiaddr.rsplit(".", 1)
    squatted = f"{network}.{int(last) + 1}"
    lan.client("squat", mac=MAC.format(0x21), address=f"{squatted}/24")
    received = udhcpc(lan, lan.client("udh2", mac=MAC.format(0x22)))
    assert received.get("ip", "").startswith(POOL) and received["ip"] != squatted, f"an address in use is not offered: {received}"
    logged = [line for line in box.program.text().splitlines() if " WARN " in line and f"address={squatted}" in line]
    assert logged, f"the conflict is logged: {box.program.text()[-2000:]}"


def test_leases_survive_a_crash(lan, box):
    udhcpc(lan, lan.client("old", mac=MAC.format(0x31)))
    before = box.leases()
    assert before, "there are leases before the crash"
    box.stop(signal.SIGKILL)
    box.start()
    received = udhcpc(lan, lan.client("new", mac=MAC.format(0x30)))
    assert received.get("ip") and received["ip"] not in before, \
        f"after kill -9 a new client gets an address that no client had: {received.get('ip')}, {sorted(before)}"
    until("after kill -9 every lease is in dhcp.leases again", lambda: set(before) <= set(box.leases()))


def test_short_leases_are_renewed_and_expire(own_lan):
    """dhclient renews a lease of some seconds while it runs; afterwards the lease expires."""
    lan = own_lan
    box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\nconflict_check = false\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\n'
                      'pools = ["10.88.0.100-10.88.0.103"]\nlease_time = "4s"\nrenew_time = "1s"\nrebind_time = "2s"\n')
    files = lan.folder / "renewing"
    command = dhclient_command(lan, files)
    log = files / "log"
    executable(files / "script", f"#!/bin/sh\necho $reason >> {log}\n"
                                 "case $reason in BOUND|RENEW) ip address replace $new_ip_address/24 dev lan0;; esac\nexit 0\n")
    program = lan.start(lan.client("renewing", mac=MAC.format(0x32)), "dhclient", *command, "-d", "lan0")
    until("dhclient renews twice", lambda: log.exists() and log.read_text().count("RENEW") > 1)
    assert f" to {OURS} port 67" in program.text(), f"dhclient renews at T1, by unicast: {program.text()}"
    program.stop(signal.SIGKILL)
    until("a lease that no client renews leaves dhcp.leases when it ends", lambda: not box.leases())
