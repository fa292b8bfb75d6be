"""Which address the server uses, answers from and gives away: second addresses, several interfaces, its own pool."""

import socket

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance, ask, udp_socket
from support.dhcp_wire import ACK, BROADCAST, DISCOVER, NAK, REQUEST, Client, pxe, request


def test_port_4011_answers_from_the_address_that_was_asked(own_lan):
    """The server is configured to use its interface's second address."""
    server = own_lan.client("srv", address="10.88.0.1/24")
    own_lan.ip(server, "address", "add", f"{OURS}/24", "dev", "lan0")
    Appliance(own_lan, server, "", first=f'address = "{OURS}"\n')
    with udp_socket(own_lan.client("peer", address="10.88.0.9/24"), 4011) as sock:
        reply = ask(sock, request(REQUEST, MAC.format(1), pxe(7), ciaddr="10.88.0.9"), (OURS, 4011), tries=5)
    assert reply and reply.kind == ACK and reply.source == (OURS, 4011), \
        f"port 4011 answers from the address that was asked: {reply and reply.source}"


def test_the_servers_own_addresses_are_never_leased(own_lan):
    """Both addresses of the interface lie in the pool."""
    server = own_lan.client("srv", address=f"{OURS}/24")
    own_lan.ip(server, "address", "add", "10.88.0.4/24", "dev", "lan0")
    Appliance(own_lan, server, '[dhcp]\nmode = "server"\n[[dhcp.subnets]]\nsubnet = "10.88.0.0/24"\npools = ["10.88.0.1-10.88.0.5"]\n')
    space, leased, returned = own_lan.client("many", mac=MAC.format(1)), [], []
    for number in range(4):
        identifier = bytes([0, number, 7])
        with Client(space, MAC.format(0x80 + number)) as client:
            client.send(DISCOVER, [(61, identifier)], flags=BROADCAST)
            offers = client.replies(enough=len) if number < 3 else client.replies(wait=1.2)
            leased += [offer.yiaddr for offer in offers]
            returned += [offer.options.get(61) == identifier for offer in offers]
    with Client(space, MAC.format(0x83)) as client:
        client.send(REQUEST, [(50, socket.inet_aton(OURS))], flags=BROADCAST)
        kinds = [reply.kind for reply in client.replies(enough=len)]
    assert kinds == [NAK], f"a request for the server's own address is refused: {kinds}"
    assert leased == ["10.88.0.1", "10.88.0.3", "10.88.0.5"], f"a server's own addresses are given to no client: {leased}"
    assert returned == [True] * 3, f"a client gets its identifier back (RFC 6842): {returned}"


def test_each_interface_has_its_own_mode(own_lan):
    """A proxy on the first interface, a server on the second, nothing on the third; the fourth is not configured."""
    networks = ("88", "89", "87", "86")
    bridges = [own_lan.bridge(f"net{network}") for network in networks]
    server = own_lan.client("srv", bridge=bridges[0], address=f"{OURS}/24")
    for bridge, network in list(zip(bridges, networks))[1:]:
        own_lan.join(server, bridge, f"10.{network}.0.2/24", interface=f"lan{networks.index(network)}")
    Appliance(own_lan, server, '[[interfaces]]\nname = "lan1"\nmode = "server"\n[[interfaces]]\nname = "lan2"\nmode = "off"\n'
              '[dhcp]\nmode = "proxy"\n' + SUBNETS)
    heard = []
    for number, bridge in enumerate(bridges):
        answered = {"enough": len} if number < 2 else {"wait": 2}
        with Client(own_lan.client(f"c{number}", bridge=bridge, mac=MAC.format(number)), MAC.format(number)) as client:
            client.send(DISCOVER, pxe(7))
            replies = client.replies(**answered)
            client.send(DISCOVER, [], flags=BROADCAST)
            replies += client.replies(enough=len) if number == 1 else client.replies(wait=1.2)
        heard.append([(offer.source, offer.yiaddr.rsplit(".", 1)[0], offer.siaddr) for offer in replies])
    assert heard[0] == [(OURS, "0.0.0", OURS)], f"clients on the proxy's interface get a boot file only: {heard[0]}"
    assert heard[1] == [("10.89.0.2", "10.89.0", "10.89.0.2"), ("10.89.0.2", "10.89.0", "0.0.0.0")], \
        f"clients on the server's interface get an address, and are directed to that interface: {heard[1]}"
    assert heard[2:] == [[], []], f"no reply comes on an interface that is off or not configured: {heard[2:]}"
