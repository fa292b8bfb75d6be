"""Another boot server on the LAN: noticed, reported, and competed with or left alone as configured."""

import pytest

from support.dhcp_appliance import MAC, OURS, Appliance
from support.lan import until
from support.dhcp_servers import dnsmasq
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe

OTHER = "10.88.0.1"
FOUND = 'event="other_dhcp_server"'
STAND_DOWN = '[dhcp]\non_other_server = "stand_down"\nother_server_check_interval = "1s"\n'


@pytest.fixture
def client(own_lan):
    """A PXE client."""
    with Client(own_lan.client("pxe", mac=MAC.format(1)), MAC.format(1)) as client:
        yield client


def start_rogue(lan, space):
    """Starts dnsmasq as a second ProxyDHCP server."""
    return dnsmasq(lan, space, "--dhcp-range=10.88.0.0,proxy", "--pxe-service=x86PC,boot,pxelinux", "--no-ping")


def offers_to(client):
    """Returns the addresses of the servers that answer a DISCOVER."""
    client.send(DISCOVER, pxe(0), flags=BROADCAST)
    return sorted(offer.source for offer in client.replies(wait=2))


def test_another_boot_server_is_reported_at_start(own_lan, client):
    start_rogue(own_lan, own_lan.client("other", address=f"{OTHER}/24"))
    box = Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), "")
    box.program.says(FOUND, limit=3)
    assert offers_to(client) == [OTHER, OURS], "both servers answer"
    text = box.program.text()
    assert text.index(FOUND) < text.index('event="first_seen"'), f"the other server is reported before the first answer: {text[-2000:]}"
    found = lambda: [entry["detail"] for entry in box.timeline() if entry["event"] == "other_dhcp_server"]
    named = until("the other server is in the timeline", found)
    assert named == [{"interface": "lan0", "address": OTHER, "role": "boot_server"}], f"the timeline names the other server: {named}"
    counted = box.metrics()["bootlatch_rogue_dhcp_servers_detected_total"]
    assert counted == 1, f"the other server is counted in the metrics: {counted}"


def test_a_server_that_stands_down_leaves_clients_to_the_other(own_lan, client):
    other = own_lan.client("other", address=f"{OTHER}/24")
    box = Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), STAND_DOWN)
    assert offers_to(client) == [OURS], "alone on its network it answers"
    rogue = start_rogue(own_lan, other)
    box.program.says(FOUND, limit=5)
    assert offers_to(client) == [OTHER], "clients are left to the other server if it is configured so"
    rogue.stop()
    until("it answers again when the other server is gone", lambda: offers_to(client) == [OURS], limit=20)


def test_of_two_bootlatches_that_stand_down_the_lower_address_answers(own_lan, client):
    box = Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), STAND_DOWN)
    assert offers_to(client) == [OURS], "the first of the two answers"
    second = Appliance(own_lan, own_lan.client("second", address="10.88.0.3/24"), STAND_DOWN)
    until("one of the two answers", lambda: offers_to(client) == [OURS], limit=10)
    assert all(offers_to(client) == [OURS] for _ in range(3)), "the lower address answers, and continues to"
    hosts = second.command("host", "list") + box.command("host", "list")
    names = [line.split()[0] for line in hosts.splitlines() if "52-54" not in line and "-" in line.split()[0]]
    assert names == [], f"neither records the other as a machine: {hosts}"
