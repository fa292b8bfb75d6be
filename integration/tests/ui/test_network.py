"""The page of the network: leases of real clients, a real relay, and another DHCP server, as they are heard."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.browser import THEMES, Window, chromium, violations
from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance, udp_socket
from support.dhcp_clients import udhcpc
from support.dhcp_servers import dnsmasq, relay
from support.lan import Lan, entered, until
from support.programs import bootlatch

FOLDER = Path(os.environ.get("SCREENSHOTS", Path(__file__).resolve().parents[2] / ".cache/screenshots"))
ANNOUNCED = '[dhcp]\nmode = "server"\nrelays = ["10.88.0.9"]\n' + SUBNETS


class Site:
    """The server of a LAN, as a window knows it."""

    address = OURS

    def __init__(self, box):
        self.box = box
        self.token = (box.state / "admin.token").read_text().strip()
        self.viewer = (box.state / "viewer.token").read_text().strip()

    def run(self, *words):
        """Runs the command line on the server's machine."""
        command = [str(bootlatch()), *words, "--server", f"http://{OURS}", "--token-file", str(self.box.state / "admin.token")]
        return subprocess.run(self.box.lan.inside(self.box.space, *command), capture_output=True, text=True,
                              env={**os.environ, "XDG_CONFIG_HOME": str(self.box.lan.folder)})

    def items(self, *words):
        answer = self.run("network", *words, "-o", "json")
        assert answer.returncode == 0, answer
        return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def lan():
    with Lan("br0", "br1") as lan:
        yield lan


@pytest.fixture(scope="module")
def site(lan):
    box = Appliance(lan, lan.client("srv", address=f"{OURS}/24"), ANNOUNCED)
    lan.ip(box.space, "route", "add", "10.89.0.0/24", "via", "10.88.0.9")
    relay(lan, OURS)
    return Site(box)


@pytest.fixture
def open_window(site):
    """A function that opens a window in a browser on the server's machine."""
    with entered(site.box.space), chromium() as browser:
        windows = []

        def open_one():
            windows.append(Window(browser, site, port=80))
            return windows[-1]

        yield open_one
        assert not [error for window in windows for error in window.errors]
        for window in windows:
            window.close()


def test_leases_appear_are_searched_and_ended(lan, site, open_window):
    window = open_window()
    page = window.log_in(path="/ui/network")
    page.get_by_role("region", name="Interface lan0").get_by_text("DHCP server: gives addresses").wait_for()
    before = len(window.requests)
    addresses = [udhcpc(lan, lan.client(f"c{number}", mac=MAC.format(number)), "-x", f"hostname:node{number}")["ip"] for number in (1, 2)]
    table = page.get_by_role("region", name="Leases")
    row = lambda address: table.get_by_role("row").filter(has_text=address)
    for number, address in enumerate(addresses, 1):
        row(address).get_by_text(f"node{number}", exact=True).wait_for()
        assert MAC.format(number) in row(address).inner_text() and "bound" in row(address).inner_text()
        assert "in " in row(address).locator("time").inner_text()
    assert window.requests[before:] == [], "the page follows the leases without a request"
    assert {one["address"]: one["state"] for one in site.items("leases")} == dict.fromkeys(addresses, "bound")
    assert [one["hostname"] for one in site.items("leases", "NODE2", "bound")] == ["node2"], "the command line searches as the page does"
    search = page.get_by_label("Search leases")
    search.fill("node2")
    page.get_by_text("1 of 2 leases").wait_for()
    assert "q=node2" in page.url
    # An administrator ends a lease, by the page and by the command line.
    page.get_by_label(f"End the lease of {addresses[1]}").click()
    page.get_by_role("dialog").get_by_role("button", name="End the lease").click()
    row(addresses[1]).get_by_text("released").wait_for()
    assert addresses[1] not in site.box.leases(), "the leases file follows"
    search.fill("")
    assert site.run("network", "end-lease", addresses[0]).returncode == 0
    row(addresses[0]).get_by_text("released").wait_for()
    again = site.run("network", "end-lease", addresses[0])
    assert again.returncode != 0 and f"nobody has a lease of {addresses[0]}" in again.stderr, again
    page.get_by_label("State", exact=True).select_option("bound")
    page.get_by_text("0 of 2 leases").wait_for()
    # It is durable, and the next client gets the address that was ended first.
    site.box.stop()
    site.box.start()
    window.wait_until_live()
    assert {one["state"] for one in site.items("leases")} == {"released"}
    window.errors.clear()


def test_the_end_of_a_lease_is_a_sentence_of_the_activity(lan, site, open_window):
    address = udhcpc(lan, lan.client("e", mac=MAC.format(5)))["ip"]
    page = open_window().log_in(path="/ui/activity")
    assert site.run("network", "end-lease", address).returncode == 0
    line = page.locator("#activity li[data-event=lease_ended]").filter(has_text=address)
    line.get_by_text(f"an operator ended its lease of {address}", exact=True).wait_for()


def test_a_relay_and_another_server_appear(lan, site, open_window):
    window = open_window()
    page = window.log_in(path="/ui/network")
    before = len(window.requests)
    address = udhcpc(lan, lan.client("far", bridge="br1", mac=MAC.format(0x70)))["ip"]
    relays = page.get_by_role("region", name="Relays")
    row = relays.get_by_role("row").filter(has_text="10.89.0.1")
    row.get_by_text("believed: listed in dhcp.relays").wait_for()
    page.get_by_role("region", name="Leases").get_by_role("row").filter(has_text=address).wait_for()
    [heard] = site.items("relays")
    assert (heard["address"], heard["interface"], heard["isBelieved"], heard["reason"]) == ("10.89.0.1", "lan0", True, "named")
    assert heard["messages"] >= 2 and heard["refused"] == 0, heard
    # dnsmasq offers addresses to other machines of the same segment.
    other = lan.client("other", address="10.88.0.1/24")
    answering = dnsmasq(lan, other, "--no-ping", "--dhcp-range=10.88.0.200,10.88.0.220,255.255.255.0,1h")
    udhcpc(lan, lan.client("near", mac=MAC.format(3)), "-B")
    interface = page.get_by_role("region", name="Interface lan0")
    interface.get_by_role("row").filter(has_text="10.88.0.1").get_by_text("only addresses").wait_for()
    answering.stop()
    assert window.requests[before:] == [], "the page follows the network without a request"
    servers = until("the command line shows the other server", lambda: site.items("interfaces")[0]["servers"])
    assert [one["address"] for one in servers] == ["10.88.0.1"]
    assert "10.88.0.1" in site.run("network", "interfaces").stdout


def test_a_viewer_sees_leases_and_ends_none(lan, site, open_window):
    udhcpc(lan, lan.client("v", mac=MAC.format(4)))
    page = open_window().log_in(token=site.viewer, path="/ui/network")
    row = page.get_by_role("region", name="Leases").get_by_role("row").filter(has_text=MAC.format(4))
    row.wait_for()
    assert page.get_by_role("button", name="End").count() == 0


def test_tables_with_content_are_accessible(lan, site):
    """The server of the other tests of the appearance gives no addresses; this one has leases, a relay and another server."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    udhcpc(lan, lan.client("shown", bridge="br1", mac=MAC.format(0x72)))
    with entered(site.box.space), chromium() as browser:
        for theme, width in (*((theme, 1366) for theme in THEMES), ("light", 390)):
            window = Window(browser, site, theme=theme, width=width, port=80)
            page = window.log_in(path="/ui/network")
            page.locator("#lease-rows tr").first.wait_for()
            page.locator("#relay-rows tr").first.wait_for()
            page.screenshot(path=FOLDER / f"network-leases-{theme if width > 400 else 'phone'}.png", full_page=True)
            found = violations(page)
            wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert not found and wide <= 0 and not window.errors, (found, wide, window.errors)
            window.close()


def test_a_packet_that_is_dropped_is_counted_at_once(lan, site, open_window):
    window = open_window()
    page = window.log_in(path="/ui/network")
    before, requests = {one["reason"]: one["count"] for one in site.items("drops") if one["protocol"] == "dhcp"}, len(window.requests)
    with udp_socket(lan.client("bad", address="10.88.0.7/24"), 6800) as sender:
        sender.sendto(b"x", (OURS, 67))
    dropped = page.get_by_role("region", name="Dropped and refused").get_by_role("row").filter(has_text="truncated").filter(has_text="dhcp")
    dropped.get_by_role("rowheader", name=str(before.get("truncated", 0) + 1), exact=True).wait_for()
    assert window.requests[requests:] == []
    [counted] = [one for one in site.items("drops") if (one["protocol"], one["reason"]) == ("dhcp", "truncated")]
    assert counted == {"count": before.get("truncated", 0) + 1, "outcome": "dropped", "protocol": "dhcp", "reason": "truncated"}
