"""Classless routes: iPXE, systemd-networkd and dracut ignore option 3 as soon as option 121 is there (RFC 3442)."""

from support.dhcp_appliance import MAC, OURS, SUBNETS, Appliance
from support.dhcp_wire import BROADCAST, DISCOVER, Client, classless_routes


def test_a_client_of_classless_routes_has_a_default_route(lan):
    Appliance(lan, lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\n' + SUBNETS)
    with Client(lan.client("routed", mac=MAC.format(1)), MAC.format(1)) as client:
        client.send(DISCOVER, [(55, bytes([1, 3, 121]))], flags=BROADCAST)
        offer = client.reply(wait=3)
    routes = classless_routes(offer.options[121])
    assert routes == [("0.0.0.0/0", "10.88.0.2"), ("10.99.0.0/16", "10.88.0.9")], f"option 121 has the default route of option 3: {routes}"


def test_a_configured_default_route_is_kept(own_lan):
    routes = '[{ to = "10.99.0.0/16", via = "10.88.0.9" }, { to = "0.0.0.0/0", via = "10.88.0.8" }]'
    config = SUBNETS.replace('[{ to = "10.99.0.0/16", via = "10.88.0.9" }]', routes)
    Appliance(own_lan, own_lan.client("srv", address=f"{OURS}/24"), '[dhcp]\nmode = "server"\n' + config)
    with Client(own_lan.client("routed", mac=MAC.format(1)), MAC.format(1)) as client:
        client.send(DISCOVER, [(55, bytes([1, 3, 121]))], flags=BROADCAST)
        offer = client.reply(wait=3)
    found = classless_routes(offer.options[121])
    assert found == [("10.99.0.0/16", "10.88.0.9"), ("0.0.0.0/0", "10.88.0.8")], f"the configured default route alone: {found}"
