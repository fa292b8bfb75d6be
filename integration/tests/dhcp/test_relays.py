"""Requests that a relay forwards: server mode, proxy mode behind dhcrelay, and relays that the test plays."""

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance, ask, udp_socket
from support.dhcp_clients import udhcpc
from support.dhcp_servers import dnsmasq, relay
from support.dhcp_wire import BROADCAST, DISCOVER, Client, pxe, request


def route_to_the_relay(lan, *spaces):
    for space in spaces:
        lan.ip(space, "route", "add", "10.89.0.0/24", "via", "10.88.0.9")


def test_server_mode_behind_dhcrelay(own_lan):
    """A router with dhcrelay connects the server's network with another."""
    box = Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\nrelays = ["10.88.0.9"]\n' + SUBNETS)
    route_to_the_relay(own_lan, box.space)
    relay(own_lan, OURS)
    far = own_lan.client("far", bridge="br1", mac=MAC.format(0x70))
    received = udhcpc(own_lan, far)
    assert received.get("ip", "").startswith("10.89.0.1") and received.get("router") == "10.89.0.1", \
        f"a client behind dhcrelay gets an address of its own subnet: {received}"
    with Client(far, MAC.format(0x71)) as client:
        client.send(DISCOVER, pxe(7), flags=BROADCAST)
        offer = client.reply(wait=3)
    assert offer and offer.yiaddr.startswith("10.89.0.1") and offer.file.endswith("snponly.efi"), \
        f"PXE firmware behind the relay gets address and boot file: {offer and offer.file}"


def test_proxy_mode_behind_dhcrelay(own_lan):
    """dhcrelay forwards to both: dnsmasq gives the address, bootlatch the boot file."""
    other = own_lan.client("other", address="10.88.0.1/24")
    dnsmasq(own_lan, other, "--no-ping", "--dhcp-range=10.89.0.200,10.89.0.220,255.255.255.0,1h")
    box = Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), "")
    route_to_the_relay(own_lan, other, box.space)
    relay(own_lan, "10.88.0.1", OURS)
    with Client(own_lan.client("far", bridge="br1", mac=MAC.format(1)), MAC.format(1)) as client:
        client.send(DISCOVER, pxe(11), flags=BROADCAST)
        offers = client.replies(wait=5, enough=lambda found: len(found) > 1)
    found = sorted((offer.yiaddr, offer.file) for offer in offers)
    assert len(found) == 2 and found[0] == ("0.0.0.0", "52-54-00-88-00-01/ipxe-arm64.efi") and found[1][0].startswith("10.89.0.2"), \
        f"through a relay, the address comes from dnsmasq and the boot file from bootlatch: {found}"


def test_a_relay_is_answered_at_its_address_with_its_own_option(own_lan):
    """The server is configured to use its interface's second address."""
    server = own_lan.client("srv", address="10.88.0.1/24")
    own_lan.ip(server, "address", "add", f"{OURS}/24", "dev", "lan0")
    box = Appliance(own_lan, server, "", first=f'address = "{OURS}"\n')
    agent = bytes([1, 4]) + b"vl10" + bytes([151, 2, 9, 9, 5, 4, 10, 89, 0, 0])
    with udp_socket(own_lan.client("peer", address="10.88.0.9/24"), 67) as sock:
        reply = ask(sock, request(DISCOVER, MAC.format(1), [*pxe(7), (82, agent)], giaddr="10.88.0.9"), (OURS, 67), tries=5)
        assert reply and reply.source == (OURS, 67), f"a relay is answered from the address that it asked, on port 67: {reply and reply.source}"
        assert reply.data.rstrip(b"\0").endswith(bytes([82, len(agent)]) + agent + b"\xff"), \
            "the relay's option 82 comes back unchanged, as the last option"
        before, wrong = box.metrics(), ("255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.1", "240.0.0.1")
        replies = [ask(sock, request(DISCOVER, MAC.format(1), pxe(7), giaddr=address), (OURS, 67), wait=0.2) for address in wrong]
    assert replies == [None] * 5, f"a relay address that no relay can have is not answered: {replies}"
    dropped = box.dropped_since(before, "dhcp")
    assert dropped == {"bad_header": 5}, f"such requests are counted as dropped: {dropped}"
